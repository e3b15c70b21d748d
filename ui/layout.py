"""Where output, input and hint lie in the view: pure geometry, in device pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

GAP = 8


class Mode(Enum):
    """What the view shows."""

    OUTPUT = "output"
    INPUT = "input"
    SIDE = "side by side"
    SPLIT = "before and after"
    HINT = "hint"


class Zoom(Enum):
    """How large."""

    FIT = "fit"
    ACTUAL = "actual size"


@dataclass(frozen=True, slots=True)
class Rect:
    """Left, top, width and height in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is wanted of a frame on its way to the screen.

    Attributes:
        box: (width, height) of the view in device pixels.
        mode, zoom: what is shown, and how large.
        scale: device pixels for each logical one; at actual size, one pixel of the picture is a logical pixel.
    """

    box: tuple[int, int]
    mode: Mode = Mode.OUTPUT
    zoom: Zoom = Zoom.FIT
    scale: float = 1.0

    @property
    def shows_output(self) -> bool:
        """Whether the output is to be seen at all."""
        return self.mode not in (Mode.INPUT, Mode.HINT)

    @property
    def shows_input(self) -> bool:
        """Whether the input is to be seen at all."""
        return self.mode not in (Mode.OUTPUT, Mode.HINT)

    @property
    def shows_hint(self) -> bool:
        """Whether the hint is to be seen, and nothing else."""
        return self.mode is Mode.HINT

    def places(self, picture: tuple[int, int]) -> tuple[Rect, Rect]:
        """Where output and input of a picture of this (width, height) go; the same place unless side by side."""
        width, height = self.box
        if self.mode is not Mode.SIDE:
            place = self._placed(picture, Rect(0, 0, width, height))
            return place, place
        gap = round(GAP * self.scale)
        if self._stacks(picture):
            half = (height - gap) // 2
            return (
                self._placed(picture, Rect(0, height - half, width, half)),
                self._placed(picture, Rect(0, 0, width, half)),
            )
        half = (width - gap) // 2
        return (
            self._placed(picture, Rect(width - half, 0, half, height)),
            self._placed(picture, Rect(0, 0, half, height)),
        )

    def _stacks(self, picture: tuple[int, int]) -> bool:
        """Whether two pictures are larger one above the other than beside each other."""
        width, height = self.box
        beside = min(width / 2 / picture[0], height / picture[1])
        above = min(width / picture[0], height / 2 / picture[1])
        return above > beside

    def _placed(self, picture: tuple[int, int], room: Rect) -> Rect:
        fitting = min(room.width / picture[0], room.height / picture[1])
        scale = fitting if self.zoom is Zoom.FIT else self.scale
        width, height = max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))
        return Rect(room.x + (room.width - width) // 2, room.y + (room.height - height) // 2, width, height)
