"""A picture laid on another: in its middle, in its own shape, as large as it fits."""

from __future__ import annotations

import cv2
import numpy as np


def laid_on(paper: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Write ``pixels`` (H, W, C) uint8 into the middle of ``paper`` (height, width, C) uint8; returns ``paper``."""
    height, width = paper.shape[:2]
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (min(width, max(1, round(pixels.shape[1] * scale))), min(height, max(1, round(pixels.shape[0] * scale))))
    fitted = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    paper[top : top + size[1], left : left + size[0]] = fitted
    return paper
