"""Tints: what a picture looks like under a colour filter. Pure functions on (H, W, 3) uint8 RGB."""

from __future__ import annotations

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def tint(name: str, picture: np.ndarray) -> np.ndarray:
    """Apply tint `name` of vocabulary.TINTS; "none" changes nothing."""
    if name == "none":
        return picture
    floats = picture.astype(np.float32) / 255
    grey = (floats @ LUMA)[..., None]
    if name == "bw":
        made = np.repeat(np.clip((grey - 0.5) * 1.08 + 0.5, 0, 1), 3, 2)
    elif name == "sepia":
        made = np.power(grey, 0.92) * np.array([1.02, 0.84, 0.62], np.float32) + np.array([0.06, 0.03, 0.0], np.float32)
    elif name == "warm":
        made = (0.85 * floats + 0.15 * grey) * np.array([1.18, 0.97, 0.66], np.float32) + np.array(
            [0.06, 0.02, 0], np.float32
        )
    elif name == "cold":
        made = (0.75 * floats + 0.25 * grey) * np.array([0.70, 0.94, 1.16], np.float32) + np.array(
            [0, 0.02, 0.09], np.float32
        )
    else:
        raise ValueError(f"unknown tint: {name}")
    return (np.clip(made, 0, 1) * 255 + 0.5).astype(np.uint8)
