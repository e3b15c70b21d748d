"""Windows that one call of the UNet computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sparse.rectangles import Shape, Size, Window, size_of


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one size, each of another row: one window, in a call of its one row, or several, in a call of all.

    Networks are built for a fixed number of rows, so a call of several windows is of all rows of the stream batch. A
    row that needs no window is given a copy of the first one's place; its result is thrown away.

    Attributes:
        windows: by the number of the row.
        rows: how many the stream batch has.
    """

    windows: dict[int, Window]
    rows: int

    @property
    def of_all_rows(self) -> bool:
        """Whether the call is of all rows."""
        return len(self.windows) > 1

    @property
    def numbers(self) -> Sequence[int]:
        """The rows that the call is of."""
        return range(self.rows) if self.of_all_rows else tuple(self.windows)

    @property
    def size(self) -> Size:
        """(height, width) of each window."""
        return size_of(next(iter(self.windows.values())).reads)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, height, width) of the call."""
        return len(self.numbers), *self.size

    @property
    def cost_shape(self) -> Shape:
        """The shape that ``Costs`` knows the call by."""
        return self.shape if self.of_all_rows else self.size

    @property
    def all_windows(self) -> list[Window]:
        """One for each row of the call. Where a row needs none, it reads where the first does, and writes nothing."""
        first = next(iter(self.windows.values())).reads
        nowhere = Window((*first[:2], *first[:2]), first)
        return [self.windows.get(number, nowhere) for number in self.numbers]

    def apart(self) -> list[WindowBatch]:
        """The same windows, each in a call of its own."""
        return [WindowBatch({row: window}, self.rows) for row, window in self.windows.items()]
