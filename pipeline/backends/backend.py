"""What every backend is to a stream: the three networks of a model, each one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.diffusion.guidance import RowLayout


class AccelerationError(Exception):
    """A backend cannot be had here. The message is one sentence: what is missing, and what to do."""


class Backend(Protocol):
    """Runs a model's networks. Used by one thread at a time.

    A backend that builds engines does so beside the stream: until one is ready, the model itself answers.

    Attributes:
        name: which one, for people: ``eager``, ``openvino``.
        shares_weights: whether it runs networks where the model's own weights are, and in their number format.
    """

    name: str
    shares_weights: bool

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(F, 3, H, W) float pictures in 0..1 on any device to (F, C, h, w) float32 latents."""
        ...

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """One UNet call.

        Args:
            rows: (B, C or 2C, h, w) float32.
            timesteps: (B,) int64.
            embeddings: (B, L, D), for UNets that pool them into the time embedding.
            cache: holds the prompts' keys and values.
            layout: which prompt is for which rows.
            added: what SDXL's UNet is told besides: ``text_embeds`` (B, D') and ``time_ids`` (B, 6).

        Returns:
            (B, C, h, w) float32.
        """
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(F, C, h, w) float32 latents to (F, 3, H, W) float32 pictures in 0..1."""
        ...

    def network(
        self,
        name: str,
        make: Callable[[], torch.nn.Module],
        moving: Sequence[torch.Tensor],
        staying: Sequence[torch.Tensor],
    ) -> list[torch.Tensor] | None:
        """Run another network that is made of the UNet or the autoencoder, for the sparse engine.

        Args:
            name: the same for the same network; begins with ``unet`` where it is made of the UNet.
            make: makes it, around their own weights where these are shared, else of a copy and in float32; called on
                another thread, where it is needed.
            moving: its first inputs, float of any kind or int64.
            staying: its other inputs, mostly the very tensors of the call before. They may be written to between calls
                where weights are shared, or where they are contiguous float32 on the CPU.

        Returns:
            Its outputs; None where there is no engine for these shapes, or not yet.
        """
        ...

    def weights_changed(self) -> None:
        """The model's weights are others now (a LoRA was put in or taken out): nothing built before is used again."""
        ...

    def wait(self) -> None:
        """Sleep until nothing is being built. For measurements and tests; a stream never needs it."""
        ...

    def news(self) -> list[str]:
        """What has come up beside the stream since the last call that its user should know; may be asked anywhere."""
        ...

    def close(self) -> None:
        """Stop building and give back what is held. The model itself stays as it was."""
        ...
