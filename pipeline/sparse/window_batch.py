"""A call of the UNet on windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sparse.costs import Shape
from pipeline.sparse.global_context import Place, Size
from pipeline.sparse.rectangles import shape_of


@dataclass(frozen=True)
class WindowBatch:
    """Windows that are computed in one call, all of one shape: that of one row, or those of several.

    A call of several is of all rows of the batch, as networks are built for numbers of rows: those that have no window
    look where another does, and nothing comes of it.

    Attributes:
        places: by row.
        rows: how many the batch has.
    """

    places: dict[int, Place]
    rows: int

    @property
    def together(self) -> bool:
        return len(self.places) > 1

    @property
    def numbers(self) -> Sequence[int]:
        """The rows that the call is of."""
        return range(self.rows) if self.together else tuple(self.places)

    @property
    def window(self) -> Size:
        """(height, width) of each."""
        return shape_of(next(iter(self.places.values()))[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, height, width) of the call."""
        return len(self.numbers), *self.window

    @property
    def priced(self) -> Shape:
        """What ``Costs`` knows the call by."""
        return self.shape if self.together else self.window

    def alone(self) -> list[WindowBatch]:
        """The same, each in a call of its own."""
        return [WindowBatch({row: place}, self.rows) for row, place in self.places.items()]
