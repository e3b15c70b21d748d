"""Pictures to latents and back, whichever autoencoder the model has."""

from __future__ import annotations

from typing import Any

import torch


class Autoencoder:
    """One face for diffusers' ``AutoencoderTiny`` and ``AutoencoderKL``: 0..1 pictures, unit-variance latents.

    Attributes:
        module: the diffusers module.
        factor: pixels a latent pixel spans on each side; picture sides must be multiples of it.
        latent_channels: channels of a latent.
        is_tiny: whether it is a tiny (distilled) autoencoder; the full one costs more than a few-step UNet does.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        config = module.config
        self.latent_channels = int(config.latent_channels)
        self.is_tiny = type(module).__name__ == "AutoencoderTiny"
        blocks = config.encoder_block_out_channels if self.is_tiny else config.block_out_channels
        self.factor = 2 ** (len(blocks) - 1)
        self._scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self._shift = float(getattr(config, "shift_factor", None) or 0.0)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..1 to (B, C, H / factor, W / factor) latents, scaled as the UNet expects them.

        The full autoencoder's mode is taken, not a sample: noise here would flicker.
        """
        # In its own number format: SDXL's full autoencoder overflows in the float16 of its UNet.
        encoded = self.module.encode(pictures.to(self.module.dtype) * 2 - 1)
        latents = encoded.latents if self.is_tiny else encoded.latent_dist.mode()
        return (latents - self._shift) * self._scale

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) latents to (B, 3, h * factor, w * factor) float32 pictures, clamped to 0..1."""
        latents = latents.to(self.module.dtype)
        pictures = self.module.decode(latents / self._scale + self._shift, return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)
