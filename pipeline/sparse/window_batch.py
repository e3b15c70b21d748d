"""Windows that one call of the UNet computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.sparse.rectangles import Shape, Size, Window, size_of


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one size, of one row of the stream batch or of several.

    Weights are read once for all of them, and a small network's many layers are started once.

    Attributes:
        rows: which each window is of.
        windows: as many.
        idle: how many more the network computes that the call is made by; they are copies of the first, and their
            results are thrown away.
    """

    rows: tuple[int, ...]
    windows: tuple[Window, ...]
    idle: int = 0

    @property
    def size(self) -> Size:
        """(height, width) of each window."""
        return size_of(self.windows[0].reads)

    @property
    def shape(self) -> Shape:
        """(windows, height, width) of the call."""
        return len(self.windows) + self.idle, *self.size

    @property
    def all_rows(self) -> tuple[int, ...]:
        """``rows``, and those of the idle windows."""
        return self.rows + self.rows[:1] * self.idle

    @property
    def all_windows(self) -> tuple[Window, ...]:
        """``windows``, and the idle ones."""
        return self.windows + self.windows[:1] * self.idle

    def of_rows(self) -> list[tuple[int, Window]]:
        """The row and the window, of those that are not idle."""
        return list(zip(self.rows, self.windows, strict=True))

    def apart(self) -> list[WindowBatch]:
        """The same windows, each in a call of its own."""
        return [WindowBatch((row,), (window,)) for row, window in self.of_rows()]

    def joined(self, other: WindowBatch) -> WindowBatch:
        """The windows of both; they may have two sizes by now."""
        return WindowBatch(self.rows + other.rows, self.windows + other.windows)


def grouped(
    windows: Sequence[tuple[int, Window]],
    resized: Callable[[WindowBatch, Size], WindowBatch | None],
    cost: Callable[[Shape], float],
) -> list[WindowBatch]:
    """Share windows (row, window) among calls so that these are expected to take the least time.

    From each window in a call of its own on, the two calls of the nearest areas are joined that gain the most by it.

    Args:
        resized: a batch as a call of windows of this size, some of which may be idle; None where there is no such call.
        cost: of a call of this shape.
    """
    ordered = sorted(windows, key=lambda one: one[1].area)
    batches = [WindowBatch((row,), (window,)) for row, window in ordered]
    joins = [_joined(one, other, resized, cost) for one, other in itertools.pairwise(batches)]
    while joins:
        best = max(range(len(joins)), key=lambda place: joins[place][0])
        gain, batch = joins[best]
        if batch is None or gain <= 0:
            break
        batches[best : best + 2] = [batch]
        del joins[best]
        for place in (best - 1, best):
            if 0 <= place < len(joins):
                joins[place] = _joined(batches[place], batches[place + 1], resized, cost)
    return batches


def _joined(
    one: WindowBatch,
    other: WindowBatch,
    resized: Callable[[WindowBatch, Size], WindowBatch | None],
    cost: Callable[[Shape], float],
) -> tuple[float, WindowBatch | None]:
    """What is gained by one call of both, and that call; None where it cannot be."""
    size = max(one.size[0], other.size[0]), max(one.size[1], other.size[1])
    batch = resized(one.joined(other), size)
    return (0.0, None) if batch is None else (cost(one.shape) + cost(other.shape) - cost(batch.shape), batch)
