"""The vocabulary of sparse inference (rectangle, change, window), and the geometry behind it.

What changed in a picture is covered by a few rectangles, and each network computes windows around them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

# Side of a block in pixels: the finest change that is told apart. One latent pixel of the common autoencoders.
BLOCK = 8
# At most so many rectangles cover the changes of a picture: each is one run of each half of the autoencoder.
MAX_RECTANGLES = 6
# ``cover`` weighs rectangles by what a network computes for them: each is taken to need so many blocks of halo on each
# of its sides, ...
COVER_HALO = 3
# ... and this share of the picture besides, which is what one more run costs however small it is.
RECTANGLE_OVERHEAD = 0.04

# left, top, right, bottom; right and bottom are past the last pixel. In pixels of the picture unless said otherwise.
Rectangle = tuple[int, int, int, int]
# Where a picture differs from the one before: in these rectangles, so nowhere where there are none; None: everywhere.
Change = tuple[Rectangle, ...] | None
# The changes of the F frames that go through the stream together.
FrameChanges = tuple[Change, ...]
# (height, width)
Size = tuple[int, int]
# Of the input of one network call: (height, width); or (rows, height, width) of several windows in one call.
Shape = tuple[int, ...]


class Window(NamedTuple):
    """A part of the picture that is computed anew; both rectangles are in pixels of the latent.

    Attributes:
        writes: where the result is taken over. It may be empty: ``right`` is ``left``.
        reads: what the network is given: ``writes``, a halo around it where the network needs one, and what else comes
            of windows having few shapes. Results there are thrown away.
    """

    writes: Rectangle
    reads: Rectangle

    @property
    def area(self) -> int:
        """Of what it reads."""
        height, width = size_of(self.reads)
        return height * width


def cover(
    active: np.ndarray, most: int = MAX_RECTANGLES, overhead: float = RECTANGLE_OVERHEAD
) -> tuple[Rectangle, ...]:
    """At most ``most`` rectangles, apart from each other, around the active blocks of (h, w) bool.

    The bounding box is cut in two, and its halves again, where that saves the most area: each half shrinks to its own
    bounding box.

    Args:
        active: in blocks.
        overhead: the share of the picture that one more rectangle must save.
    """
    whole = bounds(active)
    if whole is None:
        return ()
    fixed = overhead * active.size
    boxes = [whole]
    splits = [_best_split(active, whole, fixed)] if most > 1 else []
    while len(boxes) < most:
        best = max(range(len(boxes)), key=lambda number: splits[number][0])
        saved, halves = splits[best]
        if saved <= 0:
            break
        boxes[best : best + 1] = halves
        splits[best : best + 1] = [_best_split(active, half, fixed) for half in halves]
    return tuple((left * BLOCK, top * BLOCK, right * BLOCK, bottom * BLOCK) for left, top, right, bottom in boxes)


def filled(change: Change, height: int, width: int) -> np.ndarray:
    """(ceil(H / 8), ceil(W / 8)) bool: the blocks that a change in a picture of ``height`` x ``width`` touches."""
    shape = (-(-height // BLOCK), -(-width // BLOCK))
    if change is None:
        return np.ones(shape, bool)
    blocks = np.zeros(shape, bool)
    for left, top, right, bottom in change:
        if right > left and bottom > top:
            rows = slice(max(0, top) // BLOCK, max(0, -(-bottom // BLOCK)))
            blocks[rows, max(0, left) // BLOCK : max(0, -(-right // BLOCK))] = True
    return blocks


def grown(rectangle: Rectangle, margin: int, width: int, height: int) -> Rectangle:
    """``rectangle`` with ``margin`` more on each side, as far as the picture goes."""
    left, top, right, bottom = rectangle
    return max(0, left - margin), max(0, top - margin), min(width, right + margin), min(height, bottom + margin)


def scaled(rectangle: Rectangle, factor: int) -> Rectangle:
    """``rectangle`` in units of ``factor`` pixels, rounded outwards."""
    left, top, right, bottom = rectangle
    return left // factor, top // factor, -(-right // factor), -(-bottom // factor)


def size_of(rectangle: Rectangle) -> Size:
    """(height, width) of ``rectangle``."""
    return rectangle[3] - rectangle[1], rectangle[2] - rectangle[0]


def cut(maps: torch.Tensor, rectangle: Rectangle, origin: tuple[int, int] = (0, 0), scale: int = 1) -> torch.Tensor:
    """The view of ``maps`` (..., H, W) inside ``rectangle``.

    Args:
        origin: (left, top) where ``maps`` begins.
        scale: pixels of ``maps`` in a unit of ``rectangle`` and ``origin``.
    """
    left, top, right, bottom = rectangle
    across, down = origin
    return maps[..., (top - down) * scale : (bottom - down) * scale, (left - across) * scale : (right - across) * scale]


def window_around(rectangle: Rectangle, width: int, height: int, align: int, sides: Sequence[int]) -> Rectangle:
    """The smallest window around ``rectangle`` that has one of few shapes, inside a picture of ``width`` x ``height``.

    Args:
        align: left and top are multiples of it, so that convolutions with a stride fall on the same pixels as in the
            whole picture.
        sides: lengths that a side of a window may have: multiples of ``align``, rising. Two more lengths occur. A side
            spans the picture where no length holds the rectangle, or where the picture is not longer than the length
            that does. And where a side of the picture is no multiple of ``align``, windows at the right or lower border
            are longer by the remainder.
    """
    left, right = _span(rectangle[0], rectangle[2], width, align, sides)
    top, bottom = _span(rectangle[1], rectangle[3], height, align, sides)
    return left, top, right, bottom


def window_of_size(rectangle: Rectangle, size: Size, width: int, height: int, align: int) -> Rectangle | None:
    """As ``window_around``, of exactly this (height, width); None where such a window cannot hold ``rectangle``."""
    left, right = _span(rectangle[0], rectangle[2], width, align, (size[1],))
    top, bottom = _span(rectangle[1], rectangle[3], height, align, (size[0],))
    found = left, top, right, bottom
    return found if size_of(found) == size else None


def _span(first: int, end: int, limit: int, align: int, sides: Sequence[int]) -> tuple[int, int]:
    """Start and end of the shortest stretch of a picture's side, ``limit`` long, that holds ``first`` to ``end``."""
    for side in sides:
        if side >= limit:
            break
        # In the middle of the stretch if possible, but aligned and inside the picture.
        start = max(0, round((first + end - side) / 2 / align)) * align
        start = min(max(start, -(-(end - side) // align) * align), first // align * align)
        if start + side >= end:
            if start + side <= limit:
                return start, start + side
            return (limit - side) // align * align, limit
    return 0, limit


def bounds(active: np.ndarray) -> Rectangle | None:
    """The bounding box, in blocks, of what is active; None where nothing is."""
    rows, columns = np.flatnonzero(active.any(1)), np.flatnonzero(active.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _best_split(active: np.ndarray, box: Rectangle, fixed: float) -> tuple[float, list[Rectangle]]:
    """The cut of ``box`` in two that saves the most: how many blocks less are computed, and the two halves.

    Each half has shrunk to its own bounding box. No halves where no cut saves anything.

    Args:
        fixed: what a rectangle costs beyond its area and halo, in blocks.
    """
    left, top, right, bottom = box
    inner = active[top:bottom, left:right]
    if inner.all():  # a full rectangle, the most common case, cannot be covered by less
        return 0.0, []
    before = _cost(bottom - top, right - left) + fixed
    best: tuple[float, int, bool] = (-1.0, 0, False)
    for across in (False, True):
        lines = inner.T if across else inner
        if len(lines) < 2:
            continue
        costs = _half_costs(lines) + _half_costs(lines[::-1])[::-1] + 2 * fixed
        place = int(costs.argmin())
        if before - costs[place] > best[0]:
            best = (float(before - costs[place]), place + 1, across)
    saved, place, across = best
    if saved <= 0:
        return 0.0, []
    halves = [inner[:, :place], inner[:, place:]] if across else [inner[:place], inner[place:]]
    starts = [(0, 0), (place, 0)] if across else [(0, 0), (0, place)]
    found = []
    for half, (x, y) in zip(halves, starts, strict=True):
        inside = bounds(half)
        assert inside is not None, "a bounding box has something on both sides of each cut"
        found.append((inside[0] + left + x, inside[1] + top + y, inside[2] + left + x, inside[3] + top + y))
    return saved, found


def _half_costs(lines: np.ndarray) -> np.ndarray:
    """(n - 1,) what the bounding boxes of the first 1, 2, ..., n - 1 of ``lines`` (n, m) cost; line 0 is active."""
    filled_line = lines.any(1)
    number = np.arange(len(lines))
    height = np.maximum.accumulate(np.where(filled_line, number, 0)) + 1
    first = np.where(filled_line, lines.argmax(1), lines.shape[1])
    last = np.where(filled_line, lines.shape[1] - lines[:, ::-1].argmax(1), 0)
    width = np.maximum.accumulate(last) - np.minimum.accumulate(first)
    # Without the last one: a cut behind the last line leaves nothing on its other side.
    return np.asarray(_cost(height, width))[:-1]


def _cost(height: np.ndarray | int, width: np.ndarray | int) -> np.ndarray | int:
    """Blocks that are computed for a rectangle of this size: it and its halo."""
    return (height + 2 * COVER_HALO) * (width + 2 * COVER_HALO)
