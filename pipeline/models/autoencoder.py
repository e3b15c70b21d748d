"""Pictures to latents and back, whichever autoencoder the model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# ``AutoencoderTiny`` or ``AutoencoderKL``: diffusers gives them no common type.
AutoencoderModule = Any


@dataclass(frozen=True, slots=True)
class Coding:
    """How an autoencoder's own latents become those that a denoiser expects, and back.

    Attributes:
        is_tiny: an ``AutoencoderTiny``, which gives latents; an ``AutoencoderKL`` gives their distribution.
        scale, shift: latents of the denoiser are ``(latents - shift) * scale``.
    """

    is_tiny: bool
    scale: float
    shift: float

    def encode(self, module: AutoencoderModule, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..1 to (B, C, H / factor, W / factor) latents, scaled as the denoiser expects them.

        The full autoencoder's mode is taken, not a sample: noise here would flicker.
        """
        # In its own number format: SDXL's full autoencoder overflows in the float16 of its UNet.
        encoded = module.encode(pictures.to(module.dtype) * 2 - 1)
        latents = encoded.latents if self.is_tiny else encoded.latent_dist.mode()
        return (latents - self.shift) * self.scale

    def decode(self, module: AutoencoderModule, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) latents to (B, 3, h * factor, w * factor) float32 pictures, clamped to 0..1."""
        latents = latents.to(module.dtype)
        pictures = module.decode(latents / self.scale + self.shift, return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)


class Autoencoder:
    """One face for diffusers' ``AutoencoderTiny`` and ``AutoencoderKL``: 0..1 pictures, unit-variance latents.

    Attributes:
        module: the diffusers module.
        coding: what lies between its latents and the denoiser's.
        factor: pixels a latent pixel spans on each side; picture sides must be multiples of it.
        latent_channels: channels of a latent.
        is_tiny: whether it is a tiny (distilled) autoencoder; the full one costs more than a few-step UNet does.
    """

    def __init__(self, module: AutoencoderModule) -> None:
        self.module = module
        config = module.config
        self.latent_channels = int(config.latent_channels)
        self.is_tiny = type(module).__name__ == "AutoencoderTiny"
        blocks = config.encoder_block_out_channels if self.is_tiny else config.block_out_channels
        self.factor = 2 ** (len(blocks) - 1)
        scale, shift = (getattr(config, name, None) for name in ("scaling_factor", "shift_factor"))
        self.coding = Coding(self.is_tiny, float(scale or 1.0), float(shift or 0.0))

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Coding.encode``."""
        return self.coding.encode(self.module, pictures)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Coding.decode``."""
        return self.coding.decode(self.module, latents)
