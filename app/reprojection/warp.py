"""Carries a picture along a motion: one look-up for every pixel, at the place that the motion says it came from."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from app.reprojection.flow import NO_MAP, Motion, grid, in_range

Box = tuple[slice, slice]  # rows, columns
_SURE = 0.98  # confidence from which on nothing is mixed in
_TILE = 16  # small pixels: the picture is mixed tile by tile, and only where it has to be


def carry(picture: np.ndarray, motion: Motion, *, fade: bool = True, exact: bool = True) -> np.ndarray:
    """``picture`` as it looks after ``motion``.

    Args:
        picture: (H, W, 3 or 4) uint8, or float32 of any range; not changed.
        motion: from the moment of the picture to the one wanted; of any size, of the picture's shape.
        fade: where the motion is not known, mix in what was at the same place, as much as confidence lacks. Without,
            the motion is taken as it is everywhere, except for a flow that is no number.
        exact: take the mean of four pixels where a place lies between them; without, the nearest of them: no blur.

    Returns:
        An array like ``picture``; the picture itself where nothing moves.
    """
    height, width = picture.shape[:2]
    flow = motion.flow
    largest = max(flow.shape)
    if not in_range(flow, largest):
        # An accident must not leave the range in which places are exact.
        flow = np.clip(np.nan_to_num(flow, nan=0.0, posinf=0.0, neginf=0.0), -largest, largest)
    moving = np.logical_or(flow[..., 0], flow[..., 1])
    box = _bounds(moving, height, width)
    if box is None:
        return picture
    looked_up = _looked_up(picture, _places(flow, height, width, box), cv2.INTER_LINEAR if exact else cv2.INTER_NEAREST)
    if looked_up.shape == picture.shape:
        moved = looked_up
    else:
        moved = picture.copy()
        moved[box] = looked_up
    unsure = np.logical_and(motion.confidence < _SURE, moving) if fade else None
    if unsure is not None and unsure.any():
        sure = _enlarged(motion.confidence, height, width)
        for tile in _tiles(unsure, height, width):
            moved[tile] = cv2.blendLinear(moved[tile], picture[tile], sure[tile], 1 - sure[tile])
    return moved


def _looked_up(picture: np.ndarray, places: np.ndarray, how: int) -> np.ndarray:
    """``picture`` at (rows, columns, 2) ``places``; those outside of it are at its edge, which must not turn black."""
    # OpenCV looks four bytes up in half the time that it takes for three.
    packed = picture.dtype == np.uint8 and picture.shape[2] == 3
    source = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA) if packed else picture
    found = cv2.remap(source, places, NO_MAP, how, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(found, cv2.COLOR_RGBA2RGB) if packed else found


def _bounds(mask: np.ndarray, height: int, width: int) -> Box | None:
    """The smallest box of a (height, width) picture that holds a small mask and what it spreads to; None if empty."""
    left, top, wide, high = cv2.boundingRect(mask.astype(np.uint8))
    if not wide:
        return None
    # One small pixel more on every side: enlarging mixes neighbours.
    return _box((top - 1, top + high + 1), (left - 1, left + wide + 1), mask, height, width)


def _tiles(mask: np.ndarray, height: int, width: int) -> Iterator[Box]:
    """Boxes of a (height, width) picture, none over another, that hold a small mask and what it spreads to."""
    spread = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    for top in range(0, mask.shape[0], _TILE):
        for left in range(0, mask.shape[1], _TILE):
            if spread[top : top + _TILE, left : left + _TILE].any():
                yield _box((top, top + _TILE), (left, left + _TILE), mask, height, width)


def _box(rows: tuple[int, int], columns: tuple[int, int], mask: np.ndarray, height: int, width: int) -> Box:
    """The part of a (height, width) picture under these rows and columns (first, end) of a small mask."""
    down, across = height / mask.shape[0], width / mask.shape[1]
    return (
        slice(max(0, int(rows[0] * down)), min(height, int(rows[1] * down))),
        slice(max(0, int(columns[0] * across)), min(width, int(columns[1] * across))),
    )


def _places(flow: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    """Where each pixel of the box of a (height, width) picture came from, as (rows, columns, 2) float32."""
    if flow.shape[:2] == (height, width):
        return grid(height, width)[box] + flow[box]
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    places = cv2.resize(flow * scale, (width, height), interpolation=cv2.INTER_LINEAR)[box]
    return cv2.add(grid(height, width)[box], places, dst=places)  # in place: a new array of this size costs as much


def _enlarged(confidence: np.ndarray, height: int, width: int) -> np.ndarray:
    confidence = np.clip(np.nan_to_num(confidence), 0, 1).astype(np.float32)
    return cv2.resize(confidence, (width, height), interpolation=cv2.INTER_LINEAR)
