"""A real picture to work on, and how far apart two pictures are."""

from __future__ import annotations

import torch

from assets.sample import clip_path
from tests.video import frames_of

BURN_FROM = 0.15  # how far inside the range a pixel is that guidance may burn


def sample_frame() -> torch.Tensor:
    """(3, 128, 128) float 0..1: the face of the sample clip."""
    pixels = torch.from_numpy(next(frames_of(clip_path()))).permute(2, 0, 1).float() / 255
    return torch.nn.functional.interpolate(pixels[None, :, :, 80:560], size=(128, 128), mode="area")[0]


def burnt(guided: torch.Tensor, unguided: torch.Tensor) -> float:
    """Share of pixels that guidance drives to an end of the range, all channels together, from well inside it.

    Near-white paper that becomes white is not burnt; a grey wall that becomes white is. Both are (B, 3, H, W) in 0..1.
    """
    white = (guided >= 0.996).all(1) & (unguided.mean(1) < 1 - BURN_FROM)
    black = (guided <= 0.004).all(1) & (unguided.mean(1) > BURN_FROM)
    return float((white | black).float().mean())


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Decibels between two pictures in 0..1."""
    return float(-10 * torch.log10((a - b).square().mean()))
