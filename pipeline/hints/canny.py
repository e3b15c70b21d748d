"""Canny edges: thin white lines on black, as ControlNets and T2I-Adapters of the name ``canny`` were trained on."""

from __future__ import annotations

import numpy as np

# Of the gradient, in OpenCV's units; the usual ones for these networks.
_WEAK, _STRONG = 100, 200


def canny(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W) uint8, 255 on edges and 0 elsewhere (Canny, 1986)."""
    import cv2

    return cv2.Canny(pixels, _WEAK, _STRONG)
