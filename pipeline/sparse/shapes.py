"""Which shapes of windows a compiled network is prepared for: few, as each takes time and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

# The height and width of a window are the last two; before them may be the number of windows in one call.
Shape = tuple[int, ...]

# What moves asks for windows of ever new shapes. A network is prepared for the shape rounded up to this share of the
# picture's sides, which serves many, once so many were wanted ...
STEPS, ROUNDED_AFTER = 8, 3
# ... and for the shape itself once that has been wanted so often: a thing that moves at one place.
EXACT_AFTER = 8
# That slows the stream down: at most so many are ordered at once.
AT_ONCE = 2
# With as many as there is room for, one makes room that has not been used for so many windows.
UNUSED = 300


class Shapes:
    """The shapes that one network has been prepared for, and those that it is to be prepared for.

    Args:
        most: how many there may be; None where the network takes any shape.
        one_in: after the first few, one is ordered in so many windows wanted.
    """

    def __init__(self, most: int | None, one_in: int = 1) -> None:
        self._most, self._one_in = most, one_in
        self._used: dict[Shape, int] = {}  # when each that is built, or was ordered, was last of use
        self._built: set[Shape] = set()
        self._wanted: Counter[Shape] = Counter()
        self._clock = 0
        self._credit = AT_ONCE

    def pick(
        self,
        shapes: Sequence[Shape],
        holds: Callable[[Shape], bool],
        runs: Callable[[Shape], bool],
        cost: Callable[[Shape], float],
    ) -> Shape | None:
        """The shape to run a window in; None where there is none yet.

        Args:
            shapes: the window's own, and that rounded up.
            holds: whether a window of a shape can stand in for it.
            runs: whether a window of a shape can be run by now; if not, this orders it.
            cost: of a window of a shape that is there.
        """
        if self._most is None:
            return shapes[0]
        self._clock += 1
        if self._clock % self._one_in == 0:
            self._credit = min(self._credit + 1, AT_ONCE)
        if self._clock % UNUSED == 0:
            self._wanted = Counter({shape: count // 2 for shape, count in self._wanted.items() if count > 1})
        self._wanted.update(set(shapes))
        for shape, often in zip(shapes, (EXACT_AFTER, ROUNDED_AFTER), strict=True):
            if shape not in self._built and self._ordered(shape, often) and runs(shape):
                self._built.add(shape)
        found = min(filter(holds, self._built), key=cost, default=None)
        if found is not None:
            self._used[found] = self._clock
        return found

    def lost(self, shape: Shape) -> None:
        """Its network has been given up."""
        self._built.discard(shape)

    def _ordered(self, shape: Shape, often: int) -> bool:
        """Whether there is an order for this shape; one is given if it has been wanted so often."""
        if shape in self._used:
            return True
        if self._wanted[shape] < often or not self._credit:
            return False
        if len(self._used) == self._most:
            oldest = min(self._used, key=lambda one: self._used[one])
            if self._clock - self._used[oldest] < UNUSED:
                return False
            del self._used[oldest]
            self._built.discard(oldest)
        self._credit -= 1
        self._used[shape] = self._clock
        return True


def rounded_up(shape: tuple[int, int], size: tuple[int, int], align: int, least: int) -> tuple[int, int]:
    """A window's (height, width) rounded up to eighths of the picture's.

    Args:
        align: sides are multiples of it, or as long as the picture's.
        least: side of a window.
    """
    found = []
    for side, limit in zip(shape, size, strict=True):
        step = -(-limit // (STEPS * align)) * align
        found.append(min(max(least, -(-side // step) * step), limit))
    return found[0], found[1]
