"""Which shapes of windows a compiled network is prepared for: few, as each takes time and memory."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

# The height and width of a window are the last two; before them may be the number of windows in one call.
Shape = tuple[int, ...]

# Networks are chosen by what they would have saved in the last so many windows ...
REMEMBERED = 300
# ... and have to save as many whole pictures' time.
WORTH_BUILDING = 1.0
# The first so many are looked for each time that so many windows were wanted; the others, one in ``one_in``: to prepare
# a network slows the stream down.
FIRST, FIRST_EVERY = 2, 3


class WindowShapes:
    """The shapes that one network has been prepared for, and those that it is to be prepared for.

    What moves asks for windows of ever new shapes, and a larger one can stand in for most of them. Which few serve best
    is the facility location problem; it is solved greedily, one shape at a time: each is the one that would have made
    the last windows the fastest beside those that are there.

    Args:
        most: how many there may be; None where the network takes any shape.
        one_in: after the first few, one is looked for in so many windows wanted.
    """

    def __init__(self, most: int | None, one_in: int = 1) -> None:
        self._most, self._one_in = most, one_in
        self._ordered: list[Shape] = []  # of which some are built
        self._built: set[Shape] = set()
        self._wanted: deque[Shape] = deque(maxlen=REMEMBERED)
        self._since = 0  # windows wanted since a network was looked for

    def pick(
        self,
        shape: Shape,
        holds: Callable[[Shape], bool],
        runs: Callable[[Shape], bool],
        cost: Callable[[Shape], float],
    ) -> Shape | None:
        """The shape to run a window in; None where there is none yet.

        Args:
            shape: the window's own.
            holds: whether a window of a shape can stand in for it.
            runs: whether a window of a shape can be run by now; if not, this orders it.
            cost: of a window of a shape, as a share of that of the whole picture.
        """
        if self._most is None:
            return shape
        self._wanted.append(shape)
        self._since += 1
        if self._since >= (FIRST_EVERY if len(self._ordered) < FIRST else self._one_in):
            self._since = 0
            self._order(self._most, cost)
        for other in self._ordered:
            if other not in self._built and holds(other) and runs(other):
                self._built.add(other)
        return min(filter(holds, self._built), key=cost, default=None)

    def lost(self, shape: Shape) -> None:
        """Its network has been given up."""
        self._built.discard(shape)

    def _order(self, most: int, cost: Callable[[Shape], float]) -> None:
        """Order the shape that would have saved the most time, if that is enough; one may have to make room."""
        wanted = Counter(self._wanted)
        often = np.array(list(wanted.values()))
        sides = (sorted(set(side)) for side in zip(*wanted, strict=True))
        new = [one for one in itertools.product(*sides) if one not in self._ordered]
        if not new:
            return
        times = _times([*self._ordered, *new], list(wanted), cost)
        there, others = times[: len(self._ordered)], times[len(self._ordered) :]
        before = there.min(0, initial=1.0)
        best = int((np.minimum(before, others) @ often).argmin())
        after, stay = np.minimum(before, others[best]), list(self._ordered)
        if len(stay) == most:
            # Without one of those that are there, the new one in its place.
            each = [np.delete(there, number, 0).min(0, initial=1.0) for number in range(most)]
            swapped = np.minimum(each, others[best])
            least = int((swapped @ often).argmin())
            after = swapped[least]
            del stay[least]
        if (before - after) @ often >= WORTH_BUILDING:
            self._ordered = [*stay, new[best]]
            self._built.intersection_update(stay)


def _times(shapes: Sequence[Shape], wanted: Sequence[Shape], cost: Callable[[Shape], float]) -> np.ndarray:
    """(shapes, wanted) time of a window that is wanted in one of each shape; 1, the whole's, where it has no room."""
    one, other = np.array(shapes)[:, None], np.array(wanted)[None]
    holds = (one[..., :-2] == other[..., :-2]).all(2) & (one[..., -2:] >= other[..., -2:]).all(2)
    costs = np.array([min(1.0, cost(shape)) for shape in shapes])
    return np.where(holds, costs[:, None], 1.0)
