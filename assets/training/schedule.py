"""The noise schedule, how strong a style shall be at each timestep, and one or a few denoising steps to look at."""

from __future__ import annotations

import math

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

TRAIN_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012


def alphas_cumprod() -> Tensor:
    """(1000,) float32, diffusers' "scaled_linear" schedule."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


def style_amount(timesteps: Tensor) -> Tensor:
    """How much of the way from photo to style is wanted at a timestep: 0 at 0, 1 at 999, rising fast."""
    return torch.sin(timesteps.float() * (math.pi / 2 / (TRAIN_STEPS - 1)))


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """sqrt(a) x + sqrt(1 - a) n, for (B, C, h, w) latents and (B,) timesteps."""
    kept = alphas_cumprod().to(latents.device)[timesteps][:, None, None, None]
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


@torch.no_grad()
def stylise(
    unet: UNet2DConditionModel, photo: Tensor, states: Tensor, strength: float = 0.8, steps: int = 1, seed: int = 0
) -> Tensor:
    """Denoise `photo` latents ((B, 16, h, w), scaled) under prompt `states` ((B, 77, d)), re-noising as LCM does.

    The UNet is told the timestep of the first step at each of them.
    """
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(seed)).to(photo.device)
    began = torch.full((photo.shape[0],), round((TRAIN_STEPS - 1) * strength), device=photo.device)
    result = photo
    for step in range(steps):
        noisy = add_noise(result, noise, began * (steps - step) // steps)
        with torch.autocast(photo.device.type, torch.bfloat16):
            result = unet(torch.cat([noisy, photo], 1), began, states).sample.float()
    return result
