"""The UNet as a network of its own for the sparse engine: on a whole picture, or on a part of one."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.attention_cache import AttentionCache
from pipeline.sparse.context import Context


class PartUNet(torch.nn.Module):
    """A UNet's copy, with cached cross-attention, that tells its ``Context`` or is given one.

    Args:
        unet: a copy of the model's, of which everything is taken.
        whole: whether it is called on whole pictures.
    """

    def __init__(self, unet: Any, whole: bool) -> None:
        super().__init__()
        self.unet = unet
        self._whole = whole
        self._cache = AttentionCache(unet)
        self._cache.inject()
        self._context = Context(unet)
        self._context.inject()

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor, *others: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """As the UNet; ``others`` are the cross-attentions' keys and values, and of a part the ``Context.given``."""
        count = 0 if self._whole else 1 + 3 * self._context.attentions
        end = len(others) - count
        self._cache.use([tensor.to(self.unet.dtype) for tensor in others[:end]])
        self._context.begin(None if self._whole else others[end:])
        rows = rows.to(self.unet.dtype, memory_format=torch.channels_last)
        output = self.unet(rows, timesteps, embeddings.to(self.unet.dtype), return_dict=False)[0]
        return (output.float(), *(tensor.float() for tensor in self._context.recorded()))
