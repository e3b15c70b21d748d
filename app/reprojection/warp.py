"""Carries a picture along a motion: one look-up for every pixel, at the place that the motion says it came from."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from app.reprojection.flow import NO_MAP, Motion, grid, in_range

Box = tuple[slice, slice]  # rows, columns
_SURE = 0.98  # confidence from which on nothing is mixed in


def carry(picture: np.ndarray, motion: Motion, *, fade: bool = True, exact: bool = True) -> np.ndarray:
    """``picture`` as it looks after ``motion``.

    Args:
        picture: (H, W, 3) uint8, or float32 of any range; not changed.
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
    moved = picture.copy()
    how = cv2.INTER_LINEAR if exact else cv2.INTER_NEAREST
    # An edge that goes on: a place outside of the picture must not bring black in.
    moved[box] = cv2.remap(picture, _places(flow, height, width, box), NO_MAP, how, borderMode=cv2.BORDER_REPLICATE)
    unsure = _bounds(np.logical_and(motion.confidence < _SURE, moving), height, width) if fade else None
    if unsure is not None:
        sure = _enlarged(motion.confidence, height, width, unsure)
        moved[unsure] = cv2.blendLinear(moved[unsure], picture[unsure], sure, 1 - sure)
    return moved


def _bounds(mask: Any, height: int, width: int) -> Box | None:
    """The smallest box of a (height, width) picture that holds a small mask and what it spreads to; None if empty."""
    left, top, wide, high = cv2.boundingRect(mask.astype(np.uint8))
    if not wide:
        return None
    down, across = height / mask.shape[0], width / mask.shape[1]
    # One small pixel more on every side: enlarging mixes neighbours.
    rows = slice(max(0, int((top - 1) * down)), min(height, int(np.ceil((top + high + 1) * down))))
    columns = slice(max(0, int((left - 1) * across)), min(width, int(np.ceil((left + wide + 1) * across))))
    return rows, columns


def _places(flow: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    """Where each pixel of the box of a (height, width) picture came from, as (rows, columns, 2) float32."""
    if flow.shape[:2] != (height, width):
        scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        flow = cv2.resize(flow * scale, (width, height), interpolation=cv2.INTER_LINEAR)
    return grid(height, width)[box] + flow[box]


def _enlarged(confidence: np.ndarray, height: int, width: int, box: Box) -> np.ndarray:
    confidence = np.clip(np.nan_to_num(confidence), 0, 1).astype(np.float32)
    return np.ascontiguousarray(cv2.resize(confidence, (width, height), interpolation=cv2.INTER_LINEAR)[box])
