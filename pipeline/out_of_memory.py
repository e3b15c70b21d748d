"""Whether an error is a lack of memory. Free of torch until it is asked: a window is shown before torch is there."""

from __future__ import annotations

# Apple's and Intel's devices have no error of their own for it, and neither has torch for main memory.
_SHORT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or one that led to it, is a lack of memory on any device."""
    import torch

    while error is not None:
        said = str(error).lower()
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in said for words in _SHORT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
