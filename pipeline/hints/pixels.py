"""Between the engine's frames and OpenCV's pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

# One picture (H, W, 3) uint8 RGB to lines (H, W) uint8, white on black.
Draw = Callable[[np.ndarray], np.ndarray]
# The side, in pixels, of the pictures whose lines are drawn with the widths and smoothing that are stated.
USUAL_SIDE = 512


def drawn(frames: torch.Tensor, draw: Draw) -> torch.Tensor:
    """(F, 3, H, W) float 0..1 to what ``draw`` makes of each frame, in the same form, on the CPU.

    Frames that lie on another device are fetched, and the host waits for them: OpenCV draws on the CPU.
    """
    import cv2

    found = []
    for frame in frames.detach().float().cpu().numpy():
        pixels = cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in frame])
        found.append(torch.from_numpy(draw(pixels)))
    lines = torch.stack(found).unsqueeze(1).float().div_(255)
    return lines.expand(-1, 3, -1, -1)


def scale_of(pixels: np.ndarray) -> float:
    """By how much smoothing and widths grow for a picture of this size."""
    return min(pixels.shape[:2]) / USUAL_SIDE
