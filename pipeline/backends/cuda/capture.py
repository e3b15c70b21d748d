"""Capturing what a call launches as one CUDA graph, beside a stream that goes on meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")

# Compilers, and PyTorch's own libraries, settle what they use in the first calls.
_WARM_UPS = 3
# Only one capture at a time: a capture fails where another thread waits for the whole device meanwhile.
_CAPTURE = threading.Lock()


class Capturer:
    """Captures calls of one network, which are never run beside each other.

    All of its graphs use the same memory for what lies between input and output: a network that was captured for ten
    shapes takes as much as the largest of them needs. What a call gives is written over by the next of *its own*
    graph's calls, and by no other's.

    Nothing here waits for the device as a whole, gives memory back to it or collects garbage, as ``torch.cuda.graph``
    does: each would be seen in the live picture.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None  # a type that torch keeps to itself
        # One for all: cuBLAS keeps memory of its own for each stream that it was ever called on.
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, call: Callable[[], Made]) -> tuple[Made, Callable[[], None]]:
        """Capture ``call``, which reads and writes the same memory each time.

        Returns:
            What ``call`` gave, which each replay writes anew, and what replays it on the current stream.
        """
        with _CAPTURE:
            stream = self._stream = self._stream or torch.cuda.Stream(self._device)
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    call()
                stream.synchronize()
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                graph = torch.cuda.CUDAGraph()
                try:
                    # The stream on screen goes on in another thread meanwhile, and may allocate.
                    graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                    made = call()
                    graph.capture_end()
                except BaseException:
                    # Both are left in the middle of a capture, and can be used for no other.
                    with contextlib.suppress(RuntimeError):
                        graph.capture_end()
                    self._pool = self._stream = None
                    raise
                stream.synchronize()
        return made, graph.replay
