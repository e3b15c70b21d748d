"""What a network costs on windows, measured while it runs: how the faster way is chosen."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

# Parts must be expected to take less than this share of the whole: what is done around their networks is not in their
# times.
WORTH = 0.8
# What was learned is forgotten once parts have been too slow by it so often, though not by their area: it may have been
# learned while the machine did something else.
FORGET_AFTER = 8
# Of so many last times the lower quartile counts: whatever else the machine did comes on top.
_LAST = 9

# (height, width) of an input; or (rows, height, width), of so many at once.
Shape = tuple[int, ...]


class Costs:
    """Seconds of one network on the whole picture and on windows.

    A window is expected to take the share of the whole that it has of the area, and ``overhead`` more, times a factor
    that is learned. It is one factor for all shapes: what moves has a window of another shape in each frame, and a
    shape alone would be known too late.
    """

    def __init__(self, overhead: float) -> None:
        self._overhead = overhead
        self._whole: dict[Shape, deque[float]] = {}
        self._factors: deque[float] = deque(maxlen=_LAST)
        self._refused = 0

    @contextmanager
    def timed(self, shape: Shape, whole: Shape, rows: int, device: torch.device) -> Iterator[None]:
        """Measure what is done inside, ``rows`` inputs of this shape; but not a GPU, which is not waited for."""
        started = time.perf_counter()
        yield
        if device.type == "cpu":
            self.note(shape, whole, (time.perf_counter() - started) / rows)

    def note(self, shape: Shape, whole: Shape, seconds: float) -> None:
        """One call took so long: of a window, or of a whole picture of the shape ``whole``."""
        if shape == whole:
            self._whole.setdefault(whole, deque(maxlen=_LAST)).append(seconds)
        elif whole in self._whole:
            self._factors.append(seconds / _usual(self._whole[whole]) / self._by_area(shape, whole))

    def share(self, part: Shape, whole: Shape) -> float:
        """How much of the time of one whole picture a window is expected to take, or several at once."""
        if part == whole:
            return 1.0
        return self._by_area(part, whole) * (_usual(self._factors) if self._factors else 1.0)

    def worth(self, parts: Iterable[Shape], whole: Shape, rows: int = 1) -> bool:
        """Whether running ``parts`` is faster than running ``rows`` whole pictures; nothing always is."""
        parts, most = list(parts), WORTH * rows
        if sum(self.share(part, whole) for part in parts) < most:
            return True
        if sum(1.0 if part == whole else self._by_area(part, whole) for part in parts) < most:
            self._refused += 1
            if self._refused % FORGET_AFTER == 0:
                self._factors.clear()
        return False

    def _by_area(self, part: Shape, whole: Shape) -> float:
        return self._overhead + math.prod(part) / math.prod(whole)


def _usual(times: Iterable[float]) -> float:
    ordered = sorted(times)
    return ordered[len(ordered) // 4]
