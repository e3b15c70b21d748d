"""What a network costs on windows of each shape, measured while it runs: how the faster way is chosen."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

# A window that has not been run yet is expected to cost this share of the whole, and its share of the area besides.
OVERHEAD = 0.1
# A part must be expected to take less than this share of the whole: what is done around its networks is not in their
# times, and comes to a tenth and more where half of a picture changes.
WORTH = 0.75
# The times that count: the first runs of a shape, when a compiled network prepares itself for it, are left out.
_LEFT_OUT, _LEAST, _KEPT = 2, 3, 12

# (height, width) of an input; or (rows, height, width), of so many at once.
Shape = tuple[int, ...]


class Costs:
    """Seconds of one network by shape of its input."""

    def __init__(self) -> None:
        self._seconds: dict[Shape, deque[float]] = {}
        self._runs: Counter[Shape] = Counter()

    @contextmanager
    def timed(self, shape: Shape, rows: int, device: torch.device) -> Iterator[None]:
        """Measure what is done inside, ``rows`` windows of this shape; but not a GPU, which is not waited for."""
        started = time.perf_counter()
        yield
        if device.type == "cpu":
            self.note(shape, (time.perf_counter() - started) / rows)

    def note(self, shape: Shape, seconds: float) -> None:
        """One call, or one row of several alike, took so long."""
        self._runs[shape] += 1
        if self._runs[shape] > _LEFT_OUT:
            self._seconds.setdefault(shape, deque(maxlen=_KEPT)).append(seconds)

    def share(self, part: Shape, whole: Shape) -> float:
        """How much of the time of one whole picture a window is expected to take, or several at once.

        The least of the last times counts: whatever else the machine did comes on top.
        """
        if len(self._seconds.get(part, ())) >= _LEAST and whole in self._seconds:
            return min(self._seconds[part]) / min(self._seconds[whole])
        return OVERHEAD + math.prod(part) / math.prod(whole)

    def worth(self, parts: Iterable[Shape], whole: Shape) -> bool:
        """Whether running ``parts`` is faster than running the whole."""
        return sum(self.share(part, whole) for part in parts) < WORTH
