"""Where a picture differs from the ones before it: known exactly for a drawing, and told along with each frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

KEPT_STEPS = 64  # a frame that is further back than this counts as different everywhere
MOST_RECTANGLES = 32


@dataclass(frozen=True, slots=True)
class Rectangle:
    """``width`` x ``height`` pixels whose upper left one is ``(x, y)``."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.height

    def joined(self, other: Rectangle) -> Rectangle:
        """The smallest rectangle around both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        return Rectangle(x, y, max(self.right, other.right) - x, max(self.bottom, other.bottom) - y)

    def within(self, width: int, height: int) -> Rectangle | None:
        """The part of it that lies in a picture of this size; None where there is none."""
        x, y = max(0, self.x), max(0, self.y)
        right, bottom = min(width, self.right), min(height, self.bottom)
        return Rectangle(x, y, right - x, bottom - y) if right > x and bottom > y else None


@dataclass(frozen=True, slots=True)
class Changes:
    """Where a frame differs from the earlier frames of its source.

    A live frame may be dropped on its way, so the difference to the frame just before is not enough: whoever treats
    frames keeps the index of the last one and asks ``since`` it.

    Attributes:
        index: of the frame that this belongs to.
        steps: what changed from frame to frame, the step that led to ``index`` last; at most ``KEPT_STEPS``.
    """

    index: int
    steps: tuple[tuple[Rectangle, ...], ...] = ()

    def since(self, index: int) -> tuple[Rectangle, ...] | None:
        """Rectangles (in pixels of the captured picture) outside of which this frame equals frame ``index``.

        None where nothing is known, so that everything may differ. Empty where the frames are equal.
        """
        back = self.index - index
        if back < 0 or back > len(self.steps):
            return None
        return gathered(one for step in self.steps[len(self.steps) - back :] for one in step)

    def followed_by(self, step: Iterable[Rectangle] | None) -> Changes:
        """The changes of the next frame, which differs from this one within ``step`` (None: everywhere)."""
        if step is None:
            return Changes(self.index + 1)
        return Changes(self.index + 1, (*self.steps[-KEPT_STEPS + 1 :], gathered(step)))


def gathered(rectangles: Iterable[Rectangle]) -> tuple[Rectangle, ...]:
    """The same area in few rectangles: none twice, none within another, at most ``MOST_RECTANGLES``.

    Past that number neighbours in the order given are joined; those of a stroke are neighbours in the picture too.
    """
    kept: list[Rectangle] = []
    for one in rectangles:
        if any(_contains(other, one) for other in kept):
            continue
        kept = [other for other in kept if not _contains(one, other)]
        kept.append(one)
    while len(kept) > MOST_RECTANGLES:
        pairs = [kept[at : at + 2] for at in range(0, len(kept), 2)]
        kept = [pair[0].joined(pair[-1]) for pair in pairs]
    return tuple(kept)


def in_tensor(
    rectangles: Iterable[Rectangle],
    source: tuple[int, int],
    size: tuple[int, int],
    fit: str,
    mirror: bool,
) -> tuple[Rectangle, ...]:
    """Rectangles of a captured picture as rectangles of the tensor that ``app.capture.prepare`` makes of it.

    They are grown by what the resize mixes into neighbouring pixels, so that outside of them the tensor is untouched.

    Args:
        rectangles: in pixels of the captured picture.
        source, size: (width, height) of the captured picture and of the tensor.
        fit, mirror: as for ``prepare``.
    """
    width, height = size
    across, left = _axis(source[0], width, source[0] / source[1], width / height, fit)
    down, top = _axis(source[1], height, source[1] / source[0], height / width, fit)
    found = []
    for one in rectangles:
        # A bicubic kernel reaches two source pixels; an average over an area, less than one pixel of either picture.
        x, right = _scaled(one.x, one.right, across, left)
        y, bottom = _scaled(one.y, one.bottom, down, top)
        if mirror:
            x, right = width - right, width - x
        inside = Rectangle(x, y, right - x, bottom - y).within(width, height)
        if inside is not None:
            found.append(inside)
    return gathered(found)


def _axis(source: int, size: int, source_shape: float, shape: float, fit: str) -> tuple[float, float]:
    """Scale and offset that take a coordinate of the source to the tensor, along one axis."""
    if fit == "stretch":
        return size / source, 0.0
    narrower = source_shape < shape  # along this axis the source is the shorter one
    if fit == "crop":
        kept = source if narrower else min(source, max(1, round(source * shape / source_shape)))
        return size / kept, -((source - kept) // 2) * size / kept
    inner = min(size, max(1, round(size * source_shape / shape))) if narrower else size
    return inner / source, float((size - inner) // 2)


def _scaled(first: int, end: int, scale: float, offset: float) -> tuple[int, int]:
    reach = 2 * scale if scale > 1 else 0.0
    if scale == 1:
        return round(first + offset), round(end + offset)
    return math.floor(first * scale + offset - reach) - 1, math.ceil(end * scale + offset + reach) + 1


def _contains(outer: Rectangle, inner: Rectangle) -> bool:
    return outer.x <= inner.x and outer.y <= inner.y and outer.right >= inner.right and outer.bottom >= inner.bottom
