"""A drawn person: pixels that are the same everywhere, which no video codec has a part in."""

from __future__ import annotations

import cv2
import numpy as np
import torch


def figure(height: int = 256, width: int = 256, *, shift: int = 0) -> torch.Tensor:
    """(3, height, width) float32 in 0..1: head and shoulders before a wall, ``shift`` pixels to the right."""
    pixels = np.empty((256, 256, 3), np.uint8)
    pixels[:] = (150, 170, 180)
    cv2.rectangle(pixels, (10, 30), (60, 255), (110, 80, 60), -1)
    x = 140 + shift
    cv2.ellipse(pixels, (x, 260), (85, 110), 0, 0, 360, (60, 70, 140), -1)
    cv2.rectangle(pixels, (x - 16, 130), (x + 16, 170), (205, 160, 135), -1)
    cv2.ellipse(pixels, (x, 95), (42, 54), 0, 0, 360, (215, 170, 145), -1)
    cv2.ellipse(pixels, (x, 70), (48, 42), 0, 180, 360, (60, 40, 30), -1)
    for side in (-16, 16):
        cv2.circle(pixels, (x + side, 92), 5, (50, 40, 40), -1)
    cv2.ellipse(pixels, (x, 124), (14, 5), 0, 0, 180, (160, 70, 80), -1)
    if (height, width) != (256, 256):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
