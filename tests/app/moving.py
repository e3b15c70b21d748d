"""Textured pictures that move by a known way."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch

from app.frame import Frame

SIDE = 160  # the side of the flow's small copy: a pixel here is a pixel there


@lru_cache(maxsize=32)
def texture(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """(side, side, 3) uint8: blobs of several sizes, never darker than 40."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.standard_normal((side, side, 3)), (0, 0), sigma) * sigma for sigma in (1.5, 4, 9)]
    noise = sum(layers)
    picture = np.clip(140 + 90 * noise, 40, 255).astype(np.uint8)
    picture.flags.writeable = False  # many tests share it
    return picture


def shifted(picture: np.ndarray, x: int, y: int) -> np.ndarray:
    """The picture moved right by ``x`` and down by ``y`` pixels; what comes in repeats the edge."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(height) - y, 0, height - 1)
    columns = np.clip(np.arange(width) - x, 0, width - 1)
    return np.ascontiguousarray(picture[rows][:, columns])


def captured(index: int, picture: np.ndarray, fps: float = 25) -> Frame:
    """A camera frame of a picture, with its tensor."""
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) / 255
    return Frame(index, index / fps, picture, torch.from_numpy(planes))


def distance(one: np.ndarray, other: np.ndarray, margin: int = 16) -> float:
    """Mean absolute difference in grey levels, without a margin at the edges."""
    inner = slice(margin, -margin)
    return float(np.abs(one[inner, inner].astype(float) - other[inner, inner]).mean())
