"""Which shapes of windows a compiled network is prepared for: few, as each takes time and memory."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.sparse.rectangles import Shape

# A shape is chosen by the time that a network for it would have saved in the last so many windows, ...
REMEMBERED = 300
# ... which has to be that of so many whole pictures.
WORTH_BUILDING = 1.0
# The first so many shapes are chosen soon, each after so many windows. The others are chosen after ``one_in`` windows
# each, as the stream is slower while a network is prepared.
FIRST, FIRST_EVERY = 2, 3


class WindowShapes:
    """The shapes that one network has been prepared for, and those that it is to be prepared for.

    What moves asks for windows of ever new shapes, and a larger window can do for most of them. Which few shapes serve
    best is the facility location problem. It is solved greedily, one shape at a time: the next one is that which,
    beside those that are there, would have made the last windows the fastest.

    Args:
        most: how many shapes there may be; None where the network takes any shape.
        one_in: after the first few shapes, the next one is chosen each time that so many windows were wanted.
    """

    def __init__(self, most: int | None, one_in: int = 1) -> None:
        self._most, self._one_in = most, one_in
        self._ordered: list[Shape] = []  # those in ``_built``, and those that are still being built
        self._built: set[Shape] = set()
        self._wanted: deque[Shape] = deque(maxlen=REMEMBERED)
        self._since = 0  # windows wanted since a shape was last looked for

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
            holds: whether a window of another shape would do for it.
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
        """The network for this shape has been given up by the backend."""
        self._built.discard(shape)

    def _order(self, most: int, cost: Callable[[Shape], float]) -> None:
        """Choose the shape that would have saved the most time, if that is enough; another may have to make room."""
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
            # The times with each one of those that are there left out, and the new one in its place.
            each = [np.delete(there, number, 0).min(0, initial=1.0) for number in range(most)]
            swapped = np.minimum(each, others[best])
            least = int((swapped @ often).argmin())
            after = swapped[least]
            del stay[least]
        if (before - after) @ often >= WORTH_BUILDING:
            self._ordered = [*stay, new[best]]
            self._built.intersection_update(stay)


def _times(shapes: Sequence[Shape], wanted: Sequence[Shape], cost: Callable[[Shape], float]) -> np.ndarray:
    """(shapes, wanted) the time that each wanted window takes in each shape; where it does not fit, 1: the whole's."""
    one, other = np.array(shapes)[:, None], np.array(wanted)[None]
    holds = (one >= other).all(2)
    costs = np.array([min(1.0, cost(shape)) for shape in shapes])
    return np.where(holds, costs[:, None], 1.0)
