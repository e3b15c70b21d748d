"""A real picture to work on, and how far apart two pictures are."""

from __future__ import annotations

import av
import torch

from assets.sample import clip_path


def sample_frame() -> torch.Tensor:
    """(3, 128, 128) float 0..1: the face of the sample clip."""
    with av.open(str(clip_path())) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return torch.nn.functional.interpolate(pixels[None, :, :, 80:560], size=(128, 128), mode="area")[0]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Decibels between two pictures in 0..1."""
    return float(-10 * torch.log10((a - b).square().mean()))
