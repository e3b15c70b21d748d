"""The UNet as two networks of its own: one records what windows have to know of the whole, one is run on windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.sparse.context_hooks import ContextHooks


class _HookedUNet(torch.nn.Module):
    """A UNet with cached cross-attention, whose norms and self-attentions record or are told the whole.

    Args:
        unet: a ``UNet2DConditionModel`` of its own: its layers and processors are taken for good.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self._cache = AttentionCache(unet)
        self._cache.inject()
        self._hooks = ContextHooks(unet)
        self._hooks.inject()

    def _called(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        prompts: Sequence[torch.Tensor],
        given: Sequence[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, ...]:
        self._cache.use([tensor.to(self.unet.dtype) for tensor in prompts])
        self._hooks.begin(given)
        rows = rows.to(self.unet.dtype, memory_format=torch.channels_last)
        output = self.unet(rows, timesteps, embeddings.to(self.unet.dtype), return_dict=False)[0]
        return (output.float(), *self._hooks.recorded())


class RecordingUNet(_HookedUNet):
    """Is called on whole pictures, and records."""

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor, *prompts: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """As the UNet.

        Args:
            prompts: keys and values of each cross-attention.

        Returns:
            The UNet's output (B, C, h, w), then ``ContextHooks.recorded``.
        """
        return self._called(rows, timesteps, embeddings, prompts, None)


class WindowUNet(_HookedUNet):
    """Is called on windows. What timestep and embeddings do is in the scale and shift of norms that it is given."""

    def forward(self, rows: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Args:
            rows: (B, C, h, w) the windows.
            others: keys and values of each cross-attention, then ``ContextHooks.given``.

        Returns:
            The output (B, C, h, w), then the keys and values of each self-attention.
        """
        end = len(others) - 1 - 3 * self._hooks.attentions
        width = self.unet.config.cross_attention_dim
        width = width if isinstance(width, int) else width[0]
        # The UNet asks for these two, but the result does not depend on them: the time projections are not called.
        timesteps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        embeddings = torch.zeros(len(rows), 1, width, device=rows.device)
        return self._called(rows, timesteps, embeddings, others[:end], others[end:])
