"""What can go wrong with a model, in words for its user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from safetensors import SafetensorError


class ModelError(Exception):
    """A model cannot be found or loaded. The message is one sentence: what happened, why, and what to do."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Say the many ways in which a part's own loader fails as one sentence: ``what cannot be loaded: why``."""
    try:
        yield
    except _failures() as error:  # what this is, is asked only once something is raised
        raise ModelError(f"{what} cannot be loaded: {first_line(error)}") from error


def _failures() -> tuple[type[Exception], ...]:
    """What loaders raise where a part is not what they expect."""
    from huggingface_hub.errors import StrictDataclassError

    return (
        OSError,
        ValueError,
        RuntimeError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        SafetensorError,
        StrictDataclassError,  # an entry of a transformers configuration is of another type
    )


def first_line(error: Exception) -> str:
    """What ``error`` says, in one line without a full stop; two lines, where the first only announces the other."""
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and why.endswith(":"):
        why = f"{why} {lines[1].strip()}"
    return why.rstrip(".")
