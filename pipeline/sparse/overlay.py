"""Shows on the picture what was computed anew."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.sparse.rectangles import BLOCK

_TINT = (0.1, 0.9, 0.3)
_WEIGHT = 0.3


def tinted(image: torch.Tensor, active: np.ndarray | None) -> torch.Tensor:
    """A copy of (F, 3, H, W) pictures, green where ``active`` (F, H / 8, W / 8) says so; None stands for everywhere."""
    tint = torch.tensor(_TINT, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    if active is None:
        return torch.lerp(image, tint, _WEIGHT)
    pixels = active.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, None, : image.shape[2], : image.shape[3]]
    weight = torch.from_numpy(pixels).to(image.device, image.dtype) * _WEIGHT
    return torch.lerp(image, tint, weight)
