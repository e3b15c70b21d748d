"""Pictures with nothing behind the person, for those who can carry that and for those who cannot."""

from __future__ import annotations

import cv2
import numpy as np

from app.frame import Frame

# What other programs take out again: the colour of a green screen.
GREEN = (0, 255, 0)


def opaque(frame: Frame) -> np.ndarray:
    """(H, W, 3) uint8: the picture, on green where nothing is behind the person; ``frame.pixels`` where it is whole."""
    if frame.alpha is None:
        return frame.pixels
    ground = np.empty_like(frame.pixels)
    ground[:] = GREEN
    share = frame.alpha.astype(np.float32) / 255
    return cv2.blendLinear(np.ascontiguousarray(frame.pixels), ground, share, 1 - share)


def with_alpha(frame: Frame) -> np.ndarray:
    """(H, W, 4) uint8, the opacity last; (H, W, 3), ``frame.pixels`` itself, where the picture is whole."""
    return frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])


def multiplied(frame: Frame) -> np.ndarray:
    """(H, W, 4) uint8, colours multiplied with the opacity, as screens are given them."""
    found = with_alpha(frame)
    if frame.alpha is not None:
        found[..., :3] = cv2.multiply(found[..., :3], cv2.merge([frame.alpha] * 3), scale=1 / 255)
    return found


def parted(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H, W, 3) and opacity (H, W) of what ``with_alpha`` gives."""
    if pixels.shape[2] == 3:
        return pixels, None
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
