"""The UNet as networks of its own for the sparse engine: on a whole picture, and on a part of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.sparse.context_hooks import ContextHooks


class _Copy(torch.nn.Module):
    """A UNet's copy with cached cross-attention, in a ``ContextHooks``.

    Args:
        unet: a copy of the model's, of which everything is taken.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self._cache = AttentionCache(unet)
        self._cache.inject()
        self._context = ContextHooks(unet)
        self._context.inject()

    def _called(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        prompts: Sequence[torch.Tensor],
        given: Sequence[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, ...]:
        self._cache.use([tensor.to(self.unet.dtype) for tensor in prompts])
        self._context.begin(given)
        rows = rows.to(self.unet.dtype, memory_format=torch.channels_last)
        output = self.unet(rows, timesteps, embeddings.to(self.unet.dtype), return_dict=False)[0]
        return (output.float(), *self._context.recorded())


class RecordingUNet(_Copy):
    """Tells what parts need to know."""

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor, *prompts: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """As the UNet; ``prompts`` are the cross-attentions' keys and values. Its output, then what is recorded."""
        return self._called(rows, timesteps, embeddings, prompts, None)


class WindowUNet(_Copy):
    """Is given what it needs to know of the whole, what the timestep and the embeddings have done included."""

    def forward(self, rows: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``others`` are the cross-attentions' keys and values, and ``ContextHooks.given``."""
        end = len(others) - 1 - 3 * self._context.attentions
        width = self.unet.config.cross_attention_dim
        width = width if isinstance(width, int) else width[0]
        # Nothing comes of these two: the time projections are not asked.
        timesteps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        embeddings = torch.zeros(len(rows), 1, width, device=rows.device)
        return self._called(rows, timesteps, embeddings, others[:end], others[end:])
