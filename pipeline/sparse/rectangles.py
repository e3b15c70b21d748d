"""Few rectangles that cover what changed, and the windows that networks are run on to compute them anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# Side of a block in pixels: the finest change that is told apart. One latent pixel of the common autoencoders.
BLOCK = 8
# At most so many rectangles a picture: each is one run of each half of the autoencoder.
MOST = 6
# What a rectangle costs beyond its area: so many blocks of halo on each side, ...
HALO = 3
# ... and this share of the picture for running both once more, however small it is.
ONE_MORE = 0.04

# left, top, right, bottom in pixels, right and bottom past the last
Rectangle = tuple[int, int, int, int]
# What changed in a picture: nothing (no rectangle), or what lies in these; None stands for all of it.
Change = tuple[Rectangle, ...] | None


def cover(active: np.ndarray, most: int = MOST, one_more: float = ONE_MORE) -> tuple[Rectangle, ...]:
    """At most ``most`` rectangles, apart from each other, around the active blocks of (h, w) bool.

    The bounding box is cut in two, and its halves again, where that saves the most area: each half shrinks to its own
    bounding box. ``one_more`` is the share of the picture that a further rectangle must save.
    """
    whole = bounds(active)
    if whole is None:
        return ()
    fixed = one_more * active.size
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


def shape_of(rectangle: Rectangle) -> tuple[int, int]:
    """(height, width)"""
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


def window(rectangle: Rectangle, width: int, height: int, align: int, sides: Sequence[int]) -> Rectangle:
    """The smallest window around ``rectangle`` that has one of few shapes.

    Args:
        align: left and top are multiples of it, so that convolutions with a stride fall on the same pixels as in the
            whole picture.
        sides: that windows may have, multiples of ``align``, rising. Where none is long enough, and where the whole
            picture is not longer, the window spans the picture. At the right and lower border of a picture whose sides
            are no multiples of ``align``, windows have what is left over besides.
    """
    left, right = _span(rectangle[0], rectangle[2], width, align, sides)
    top, bottom = _span(rectangle[1], rectangle[3], height, align, sides)
    return left, top, right, bottom


def placed(rectangle: Rectangle, shape: tuple[int, int], width: int, height: int, align: int) -> Rectangle | None:
    """As ``window``, of this (height, width); None where it does not hold ``rectangle``."""
    left, right = _span(rectangle[0], rectangle[2], width, align, (shape[1],))
    top, bottom = _span(rectangle[1], rectangle[3], height, align, (shape[0],))
    found = left, top, right, bottom
    return found if shape_of(found) == shape else None


def _span(first: int, end: int, limit: int, align: int, sides: Sequence[int]) -> tuple[int, int]:
    for side in sides:
        if side >= limit:
            break
        # As much beyond it on the one side as on the other, as far as that can be.
        start = max(0, round((first + end - side) / 2 / align)) * align
        start = min(max(start, -(-(end - side) // align) * align), first // align * align)
        if start + side >= end:
            if start + side <= limit:
                return start, start + side
            return (limit - side) // align * align, limit
    return 0, limit


def bounds(active: np.ndarray) -> Rectangle | None:
    """(left, top, right, bottom) in blocks of what is active."""
    rows, columns = np.flatnonzero(active.any(1)), np.flatnonzero(active.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _best_split(active: np.ndarray, box: Rectangle, fixed: float) -> tuple[float, list[Rectangle]]:
    """What the best cut of ``box`` in two saves, in blocks, and the halves."""
    left, top, right, bottom = box
    inner = active[top:bottom, left:right]
    if inner.all():  # the most common, one thing that moved: nothing to save
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
    """Cost of the bounding box of the first 1, 2, ... of ``lines`` (n, m), n - 1 of them; the first line is active."""
    filled_line = lines.any(1)
    number = np.arange(len(lines))
    height = np.maximum.accumulate(np.where(filled_line, number, 0)) + 1
    first = np.where(filled_line, lines.argmax(1), lines.shape[1])
    last = np.where(filled_line, lines.shape[1] - lines[:, ::-1].argmax(1), 0)
    width = np.maximum.accumulate(last) - np.minimum.accumulate(first)
    # np.resize would not do: the last cut leaves nothing on the other side.
    return np.asarray(_cost(height, width))[:-1]


def _cost(height: np.ndarray | int, width: np.ndarray | int) -> np.ndarray | int:
    return (height + 2 * HALO) * (width + 2 * HALO)
