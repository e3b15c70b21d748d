"""Frames of a video file, read with OpenCV, so that benchmarks and tests of the engine do without PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 each, RGB, from the first to the last.

    Raises:
        OSError: the file is not there, or is no video.
    """
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise OSError(f"{path} cannot be read as a video")
        while True:
            there, pixels = video.read()
            if not there:
                return
            yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    finally:
        video.release()


def middle_square(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (S, S, 3), S the shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
