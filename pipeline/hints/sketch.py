"""A clean line drawing, white on black: for ``sketch`` T2I-Adapters and ``scribble`` or ``lineart`` ControlNets.

Those networks were trained on drawings, which have few lines, each of them whole and of one width. So the picture is
smoothed before Canny's edges are found, what is short is left out, and the rest is drawn with a round pen.
"""

from __future__ import annotations

import numpy as np

from pipeline.hints.pixels import scale_of

_SMOOTHING = 2.2  # standard deviation in pixels of a picture of the usual side
_SHORTEST = 32  # pixels of a line
_PEN = 3.0  # pixels
# The strong threshold is where this share of the picture has less gradient, so that dark scenes have lines, too.
_QUIET_SHARE = 0.9
_LEAST_GRADIENT = 40.0  # below it everything is noise


def sketch(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (H, W) uint8, white lines on black."""
    import cv2

    scale = scale_of(pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(cv2.medianBlur(grey, 5), (0, 0), max(0.8, _SMOOTHING * scale))
    across, down = (cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
    strong = max(
        _LEAST_GRADIENT, _quantile(cv2.max(cv2.convertScaleAbs(across), cv2.convertScaleAbs(down)), _QUIET_SHARE)
    )
    lines = _without_short(cv2.Canny(across, down, strong / 2, strong), max(8, round(_SHORTEST * scale)))
    pen = max(1, round(_PEN * scale))
    return cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))


def _quantile(values: np.ndarray, share: float) -> float:
    """The value (H, W) uint8 below which ``share`` of all lie."""
    counts = np.cumsum(np.bincount(values.ravel(), minlength=256))
    return float(np.searchsorted(counts, share * counts[-1]))


def _without_short(lines: np.ndarray, least: int) -> np.ndarray:
    """Without the connected lines of fewer than ``least`` pixels."""
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    keeps = (statistics[:, cv2.CC_STAT_AREA] >= least).astype(np.uint8) * 255
    keeps[0] = 0  # the ground
    return keeps[np.asarray(labels, np.int32)]
