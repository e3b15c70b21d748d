"""Soft edges: how much of an edge there is at each pixel, bright on black, as ``softedge`` and ``hed`` ControlNets see.

Those were trained on what a network makes of a picture (HED, arXiv 1504.06375): outlines of things are strong, wide and
soft, texture is faint. This is a classical operator of our own with the same aim, and without weights: the gradient
of the colours at several scales, each in units of its scale so that scales compare (Lindeberg, 1998), combined by their
geometric mean. An outline is there at every scale, and stays; texture is at the finest alone, and fades.
"""

from __future__ import annotations

import numpy as np

_SIDE = 256  # pixels of the shorter side that edges are looked for in: soft edges have no finer detail
_SCALES = (0.7, 1.5, 3.0)  # standard deviations in these pixels
_FULL_SHARE = 0.98  # what is stronger than this share of the picture is white
_LEAST_FULL = 4.0  # grey levels: in a picture of nothing but noise, nothing is white
_CONTRAST = 1.2  # above 1 what is faint becomes fainter


def soft_edges(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W) uint8."""
    import cv2

    height, width = pixels.shape[:2]
    factor = max(1.0, min(height, width) / _SIDE)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    logarithm = np.zeros(small.shape[:2], np.float32)
    for sigma in _SCALES:
        smooth = cv2.GaussianBlur(small, (0, 0), sigma)
        logarithm += cv2.log(_gradient(smooth) * np.float32(sigma) + np.float32(1e-3))
    edges = cv2.exp(logarithm / np.float32(len(_SCALES)))
    full = max(_LEAST_FULL, float(np.quantile(edges[::2, ::2], _FULL_SHARE)))
    edges = cv2.pow(np.minimum(edges / np.float32(full), 1), _CONTRAST)
    return cv2.resize(cv2.convertScaleAbs(edges, alpha=255), (width, height), interpolation=cv2.INTER_LINEAR)


def _gradient(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: the length of the steepest of the three colours' gradients, in grey levels a pixel."""
    import cv2

    across, down = (cv2.Sobel(pixels, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    red, green, blue = (cv2.magnitude(x, y) for x, y in zip(cv2.split(across), cv2.split(down), strict=True))
    return cv2.max(red, cv2.max(green, blue))
