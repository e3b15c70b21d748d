"""What a stream takes: frames, checked before anything is done with them."""

from __future__ import annotations

import torch


def checked(frames: torch.Tensor, factor: int) -> torch.Tensor:
    """``frames`` as (F, 3, H, W); a single one may come as (3, H, W).

    Args:
        factor: pixels of which width and height must be multiples.

    Raises:
        ValueError: they have another shape or type.
    """
    frames = frames.unsqueeze(0) if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape or not frames.is_floating_point():
        raise ValueError(
            f"frames are {frames.dtype} {tuple(frames.shape)}; they must be float (F, 3, H, W) or (3, H, W) in 0..1"
        )
    if frames.shape[2] % factor or frames.shape[3] % factor:
        raise ValueError(
            f"frames are {frames.shape[3]}x{frames.shape[2]}; width and height must be multiples of {factor}"
        )
    return frames
