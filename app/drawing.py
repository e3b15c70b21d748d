"""A picture to paint on: brush, eraser, undo, import. Free of any toolkit, and safe to use from several threads."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from app.changes import Rectangle, gathered
from app.fitting import laid_on

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
SMALLEST_DRAWING, LARGEST_DRAWING = 64, 4096
SMALLEST_BRUSH, LARGEST_BRUSH = 1.0, 512.0
UNDO_BYTES = 64 * 2**20
_TILE = 64
_KEPT_REVISIONS = 256
_REACH = 24.0  # a stroke is painted in pieces of this many pixels: whoever reads the picture waits for one at most


@dataclass(frozen=True, slots=True)
class Brush:
    """What a stroke is painted with.

    Attributes:
        colour: RGB, 0..255 each.
        size: diameter in pixels, 1..512.
        opacity: of the whole stroke, above 0 up to 1; a stroke that crosses itself gets no darker.
        hardness: 1 for a sharp (antialiased) edge, 0 for one that fades out from the middle.
        eraser: bring back the paper, or the picture that was imported, instead of painting.

    Raises:
        ValueError: a value is outside its range.
    """

    colour: Colour = (0, 0, 0)
    size: float = 16.0
    opacity: float = 1.0
    hardness: float = 1.0
    eraser: bool = False

    def __post_init__(self) -> None:
        if len(self.colour) != 3 or not all(0 <= part <= 255 for part in self.colour):
            raise ValueError(f"the colour is {self.colour!r}; it must be three numbers from 0 to 255")
        if not SMALLEST_BRUSH <= self.size <= LARGEST_BRUSH:
            raise ValueError(
                f"the brush is {self.size} pixels wide; it must be {SMALLEST_BRUSH:g} to {LARGEST_BRUSH:g}"
            )
        if not 0 < self.opacity <= 1 or not 0 <= self.hardness <= 1:
            raise ValueError("opacity must be above 0 and at most 1, hardness between 0 and 1")


@dataclass(frozen=True, slots=True)
class Look:
    """The drawing at one moment.

    Attributes:
        pixels: (height, width, 3) uint8 RGB; not to be written to.
        revision: number of this state; a later state has a higher one.
        changed: where it differs from the revision that was asked about; None for everywhere.
    """

    pixels: np.ndarray
    revision: int
    changed: tuple[Rectangle, ...] | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A part of the drawing at one moment.

    Attributes:
        area: where it lies.
        pixels: (area.height, area.width, 3) uint8 RGB; nobody else's.
    """

    area: Rectangle
    pixels: np.ndarray


@dataclass(slots=True)
class _Edit:
    """One step of undo: what to put back. Applying it turns it into its own inverse."""

    tiles: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    whole: tuple[np.ndarray, np.ndarray] | None = None  # picture and ground, where all was replaced

    @property
    def size(self) -> int:
        whole = sum(one.nbytes for one in self.whole) if self.whole else 0
        return whole + sum(tile.nbytes for tile in self.tiles.values())


@dataclass(slots=True)
class _Stroke:
    brush: Brush
    before: np.ndarray
    coverage: np.ndarray  # (height, width) float32 0..1, the most that any piece of the stroke has covered
    at: tuple[float, float, float]  # x, y and width of the last point
    touched: list[Rectangle] = field(default_factory=list)


class Drawing:
    """A picture and the strokes that made it.

    Edits are serialised among themselves and published in small pieces, so that a reader never waits for longer than
    it takes to copy one. Coordinates are pixels with (0, 0) at the upper left corner of the picture; points outside of
    it are fine.

    Args:
        width, height: in pixels, 64..4096.
        paper: colour of the empty drawing.

    Raises:
        ValueError: the size is outside its range.
    """

    def __init__(self, width: int = 512, height: int = 512, *, paper: Colour = WHITE) -> None:
        _check_size(width, height)
        self._editing = threading.RLock()
        self._guard = threading.Lock()  # of the picture and what is known of it; held for a copy at most
        self._paper = paper
        self._ground = _flat(width, height, paper)  # what an eraser brings back
        self._pixels = self._ground.copy()
        self._shown: np.ndarray | None = None  # a copy of the picture, until it changes
        self._revision = 0
        self._log: deque[tuple[int, tuple[Rectangle, ...] | None]] = deque(maxlen=_KEPT_REVISIONS)
        self._stroke: _Stroke | None = None
        self._undo: deque[_Edit] = deque()
        self._redo: list[_Edit] = []

    @classmethod
    def of(cls, pixels: np.ndarray, ground: np.ndarray | None = None) -> Drawing:
        """A new drawing that begins with a picture (as ``open_picture`` takes it), which is no step of undo."""
        drawing = cls()
        drawing.open_picture(pixels, ground)
        drawing._undo.clear()
        return drawing

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self._pixels.shape[:2]
        return width, height

    @property
    def revision(self) -> int:
        """Number of the present state."""
        return self._revision

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._undo) or self._stroke is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._redo)

    def look(self, since: int | None = None) -> Look:
        """The drawing as it is now, and where it differs from revision ``since``."""
        with self._guard:
            if self._shown is None:
                self._shown = self._pixels.copy()
            pixels, revision, areas = self._shown, self._revision, self._changed_since(since)
        return Look(pixels, revision, None if areas is None else gathered(areas))

    def patches(self, since: int | None = None) -> tuple[int, list[Patch]]:
        """The present revision, and what differs in it from revision ``since``; all of it where that is not known.

        Copies nothing else, so that following a stroke costs as much as the stroke and not as the whole picture.
        """
        with self._guard:
            areas = self._changed_since(since)
            parts = (Rectangle(0, 0, *self.size),) if areas is None else gathered(areas)
            return self._revision, [Patch(area, self._pixels[_slices(area)].copy()) for area in parts]

    @property
    def ground(self) -> np.ndarray:
        """What an eraser brings back: (height, width, 3) uint8 RGB, a copy."""
        with self._guard:
            return self._ground.copy()

    @property
    def paper(self) -> Colour:
        """The colour of the empty drawing."""
        return self._paper

    # -- strokes ------------------------------------------------------------------------------------------------------

    def begin(self, x: float, y: float, brush: Brush, pressure: float = 1.0) -> None:
        """Put the brush down; ``pressure`` 0..1 scales its width. A stroke still open is ended first."""
        with self._editing:
            self.end()
            height, width = self._pixels.shape[:2]
            at = (*_near(x, y), _width_of(brush, pressure))
            self._stroke = _Stroke(brush, self._pixels.copy(), np.zeros((height, width), np.float32), at)
            self._paint(self._stroke, at, at)

    def move(self, x: float, y: float, pressure: float = 1.0) -> None:
        """Draw on to a point; nothing without ``begin``."""
        with self._editing:
            stroke = self._stroke
            if stroke is None:
                return
            if not math.isfinite(x + y + pressure):
                return
            end = (*_near(x, y), _width_of(stroke.brush, pressure))
            for start, stop in _pieces(stroke.at, end):
                self._paint(stroke, start, stop)
            stroke.at = end

    def end(self) -> None:
        """Lift the brush: the stroke is now one step of undo."""
        with self._editing:
            stroke, self._stroke = self._stroke, None
            if stroke is not None and stroke.touched:
                self._remember(_Edit({tile: stroke.before[_part(tile)].copy() for tile in _tiles(stroke.touched)}))

    def stroke(self, points: Iterable[tuple[float, float]], brush: Brush) -> None:
        """A whole stroke through ``points`` at once."""
        with self._editing:
            for number, (x, y) in enumerate(points):
                if number:
                    self.move(x, y)
                else:
                    self.begin(x, y, brush)
            self.end()

    # -- the whole picture --------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Empty paper again; an imported picture goes too."""
        self._replace_all(_flat(*self.size, self._paper))

    def import_picture(self, pixels: np.ndarray) -> None:
        """Lay a picture (H, W, 3) uint8 RGB on the paper, as large as it fits; an eraser brings it back.

        Raises:
            ValueError: it is not such a picture.
        """
        _check_picture(pixels)
        self._replace_all(laid_on(_flat(*self.size, self._paper), pixels))

    def open_picture(self, pixels: np.ndarray, ground: np.ndarray | None = None) -> None:
        """Go on with a picture (H, W, 3) uint8 RGB at its own size; the step can be undone as any other.

        Args:
            pixels: the drawing from now on.
            ground: what an eraser brings back, of the same shape; by default the empty paper.

        Raises:
            ValueError: it is not such a picture, or its size is none that a drawing can have.
        """
        _check_picture(pixels)
        height, width = pixels.shape[:2]
        _check_size(width, height)
        if ground is None:
            ground = _flat(width, height, self._paper)
        elif ground.shape != pixels.shape:
            raise ValueError(f"the ground is {ground.shape}; it must be as the picture, {pixels.shape}")
        self._replace_all(ground.copy(), pixels.copy())

    def resize(self, width: int, height: int) -> None:
        """Another size in pixels, the drawing scaled to fit into it. Raises ``ValueError`` as the constructor does."""
        _check_size(width, height)
        with self._editing:
            self.end()
            self._replace_all(
                laid_on(_flat(width, height, self._paper), self._ground),
                laid_on(_flat(width, height, self._paper), self._pixels),
            )

    def undo(self) -> None:
        """Take the last step back; an open stroke counts as one. Nothing where there is none."""
        with self._editing:
            self.end()
            if self._undo:
                self._redo.append(self._swapped(self._undo.pop()))

    def redo(self) -> None:
        """Do again what was taken back last."""
        with self._editing:
            if self._redo:
                self.end()
            if self._redo:
                self._undo.append(self._swapped(self._redo.pop()))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _paint(self, stroke: _Stroke, start: tuple[float, float, float], stop: tuple[float, float, float]) -> None:
        height, width = self._pixels.shape[:2]
        area = _around(start, stop).within(width, height)
        if area is None:
            return
        part = _slices(area)
        covered = np.maximum(stroke.coverage[part], _coverage(area, start, stop, stroke.brush.hardness))
        stroke.coverage[part] = covered
        weight = (covered * stroke.brush.opacity)[..., None]
        colour = (
            self._ground[part].astype(np.float32) if stroke.brush.eraser else np.array(stroke.brush.colour, np.float32)
        )
        before = stroke.before[part].astype(np.float32)
        painted = np.rint(before + weight * (colour - before)).astype(np.uint8)
        stroke.touched.append(area)
        with self._guard:
            self._pixels[part] = painted
            self._publish((area,))

    def _replace_all(self, ground: np.ndarray, pixels: np.ndarray | None = None) -> None:
        with self._editing:
            self.end()
            self._remember(self._swapped(_Edit(whole=(ground.copy() if pixels is None else pixels, ground))))

    def _swapped(self, edit: _Edit) -> _Edit:
        """Apply ``edit``; the edit that takes it back."""
        with self._guard:
            if edit.whole is not None:
                inverse = _Edit(whole=(self._pixels, self._ground))
                self._pixels, self._ground = edit.whole
                self._publish(None)
                return inverse
            inverse = _Edit({tile: self._pixels[_part(tile)].copy() for tile in edit.tiles})
            for tile, pixels in edit.tiles.items():
                self._pixels[_part(tile)] = pixels
            self._publish(_rectangle(tile, pixels) for tile, pixels in edit.tiles.items())
            return inverse

    def _remember(self, edit: _Edit) -> None:
        self._redo.clear()
        self._undo.append(edit)
        spent = sum(one.size for one in self._undo)
        while spent > UNDO_BYTES and len(self._undo) > 1:
            spent -= self._undo.popleft().size

    def _publish(self, areas: Iterable[Rectangle] | None) -> None:
        self._revision += 1
        self._shown = None
        self._log.append((self._revision, None if areas is None else tuple(areas)))

    def _changed_since(self, since: int | None) -> list[Rectangle] | None:
        if since is None or since > self._revision:
            return None
        found: list[Rectangle] = []
        steps = [areas for revision, areas in self._log if revision > since]
        if len(steps) < self._revision - since:
            return None
        for areas in steps:
            if areas is None:
                return None
            found.extend(areas)
        return found


def _check_size(width: int, height: int) -> None:
    for side in (width, height):
        if not SMALLEST_DRAWING <= side <= LARGEST_DRAWING:
            raise ValueError(
                f"the drawing is {width}x{height}; its sides must be {SMALLEST_DRAWING} to {LARGEST_DRAWING} pixels"
            )


def _check_picture(pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"a picture is (H, W, 3) uint8; this is {pixels.shape} {pixels.dtype}")


def _flat(width: int, height: int, colour: Colour) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def _near(x: float, y: float) -> tuple[float, float]:
    """The point, brought back from where no picture reaches: a stroke from there would take forever to paint."""
    far = 2.0 * LARGEST_DRAWING
    return min(far, max(-far, x)), min(far, max(-far, y))


def _width_of(brush: Brush, pressure: float) -> float:
    return max(SMALLEST_BRUSH, brush.size * min(1.0, max(0.0, pressure)))


def _pieces(
    start: tuple[float, float, float], end: tuple[float, float, float]
) -> Iterator[tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """The way from ``start`` to ``end`` in short pieces: small rectangles hug a slanted line, one would not."""
    count = max(1, math.ceil(math.dist(start[:2], end[:2]) / _REACH))
    points = [tuple(a + (b - a) * number / count for a, b in zip(start, end, strict=True)) for number in range(count)]
    yield from zip(points, [*points[1:], end], strict=True)  # type: ignore[misc]


def _around(start: tuple[float, float, float], stop: tuple[float, float, float]) -> Rectangle:
    radius = max(start[2], stop[2]) / 2 + 1
    x, y = math.floor(min(start[0], stop[0]) - radius), math.floor(min(start[1], stop[1]) - radius)
    right, bottom = math.ceil(max(start[0], stop[0]) + radius), math.ceil(max(start[1], stop[1]) + radius)
    return Rectangle(x, y, right - x, bottom - y)


def _coverage(
    area: Rectangle, start: tuple[float, float, float], stop: tuple[float, float, float], hardness: float
) -> np.ndarray:
    """How much of each pixel in ``area`` a round brush covers on its way: (height, width) float32 0..1.

    By the distance of the pixel's centre from the line: the edge falls off over one pixel, which antialiases it.
    """
    x = np.arange(area.x, area.right, dtype=np.float32) + np.float32(0.5 - start[0])
    y = (np.arange(area.y, area.bottom, dtype=np.float32) + np.float32(0.5 - start[1]))[:, None]
    dx, dy = stop[0] - start[0], stop[1] - start[1]
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0, 1) if length > 0 else np.float32(0)
    distance = np.hypot(x - along * dx, y - along * dy)
    radius = (start[2] + along * (stop[2] - start[2])) / 2
    fade = np.maximum(1, radius * (1 - hardness))
    return np.clip((radius + 0.5 - distance) / fade, 0, 1).astype(np.float32)


def _slices(area: Rectangle) -> tuple[slice, slice]:
    return slice(area.y, area.bottom), slice(area.x, area.right)


def _tiles(areas: Iterable[Rectangle]) -> set[tuple[int, int]]:
    """The (row, column) of every tile that the areas touch."""
    return {
        (row, column)
        for area in areas
        for row in range(area.y // _TILE, (area.bottom - 1) // _TILE + 1)
        for column in range(area.x // _TILE, (area.right - 1) // _TILE + 1)
    }


def _part(tile: tuple[int, int]) -> tuple[slice, slice]:
    row, column = tile
    return slice(row * _TILE, (row + 1) * _TILE), slice(column * _TILE, (column + 1) * _TILE)


def _rectangle(tile: tuple[int, int], pixels: np.ndarray) -> Rectangle:
    return Rectangle(tile[1] * _TILE, tile[0] * _TILE, pixels.shape[1], pixels.shape[0])
