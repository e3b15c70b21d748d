"""Pictures to latents and back, whichever autoencoder the model has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.models.modules import AutoencoderModule, PictureCoder


@dataclass(frozen=True, slots=True)
class Coding:
    """How an autoencoder's own latents become those that a denoiser expects, and back.

    Attributes:
        scale, shift: latents of the denoiser are ``(latents - shift) * scale``.
    """

    scale: float
    shift: float

    def encode(self, module: PictureCoder, pictures: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in 0..1 to (B, C, H / factor, W / factor) latents, scaled as the denoiser expects them.

        A tiny autoencoder gives latents, the full one their distribution. Of that the mode is taken, not a sample:
        noise here would flicker.
        """
        # In its own number format: SDXL's full autoencoder overflows in the float16 of its UNet.
        encoded = module.encode(pictures.to(module.dtype) * 2 - 1, return_dict=False)[0]
        latents = encoded if isinstance(encoded, torch.Tensor) else encoded.mode()
        return (latents - self.shift) * self.scale

    def decode(self, module: PictureCoder, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) latents to (B, 3, h * factor, w * factor) float32 pictures, clamped to 0..1."""
        latents = latents.to(module.dtype)
        pictures = module.decode(latents / self.scale + self.shift, return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class AutoencoderFacts:
    """What is known of an autoencoder without its module.

    Attributes:
        factor: pixels a latent pixel spans on each side; picture sides must be multiples of it.
        latent_channels: channels of a latent.
        is_tiny: whether it is a tiny (distilled) autoencoder; the full one costs more than a few-step UNet does.
        scale, shift: see ``Coding``.
    """

    factor: int
    latent_channels: int
    is_tiny: bool
    scale: float
    shift: float

    @classmethod
    def of(cls, module: AutoencoderModule) -> AutoencoderFacts:
        """Those of a module of diffusers."""
        config = module.config
        blocks = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return cls(
            factor=2 ** (len(blocks) - 1),
            latent_channels=int(config["latent_channels"]),
            is_tiny=type(module).__name__ == "AutoencoderTiny",
            scale=float(config.get("scaling_factor") or 1.0),
            shift=float(config.get("shift_factor") or 0.0),
        )


class Autoencoder:
    """One face for diffusers' ``AutoencoderTiny`` and ``AutoencoderKL``: 0..1 pictures, unit-variance latents.

    Args:
        facts: what is known of it.
        module: gives the diffusers module, which may have to be read first.

    Attributes:
        coding: what lies between its latents and the denoiser's.
        factor, latent_channels, is_tiny: see ``AutoencoderFacts``.
    """

    def __init__(self, facts: AutoencoderFacts, module: Callable[[], AutoencoderModule]) -> None:
        self.latent_channels, self.factor, self.is_tiny = facts.latent_channels, facts.factor, facts.is_tiny
        self.coding = Coding(facts.scale, facts.shift)
        self._module = module

    @property
    def module(self) -> AutoencoderModule:
        """The diffusers module."""
        return self._module()

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """See ``Coding.encode``."""
        return self.coding.encode(self.module, pictures)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Coding.decode``."""
        return self.coding.decode(self.module, latents)
