"""Shows on the picture what was computed anew."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from pipeline.sparse.rectangles import BLOCK

_TINT = (0.1, 0.9, 0.3)
_WEIGHT = 0.3


def tinted(image: torch.Tensor, active: np.ndarray | None) -> torch.Tensor:
    """A copy of (F, 3, H, W) pictures, green where ``active`` (F, H / 8, W / 8) says so; None stands for everywhere."""
    tint = _tint(image.device, image.dtype)
    if active is None:
        return torch.lerp(image, tint, _WEIGHT)
    blocks = torch.from_numpy(active)[:, None]
    if image.device.type == "cuda":
        blocks = blocks.pin_memory()  # the host need not wait for a copy from pinned memory
    blocks = blocks.to(image.device, non_blocking=True).to(image.dtype)
    pixels = blocks.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)[..., : image.shape[2], : image.shape[3]]
    return torch.lerp(image, tint, pixels * _WEIGHT)


@lru_cache(maxsize=8)
def _tint(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(1, 3, 1, 1) the colour; kept on the device, as each upload of it would hold the host up."""
    return torch.tensor(_TINT, device=device, dtype=dtype).view(1, 3, 1, 1)
