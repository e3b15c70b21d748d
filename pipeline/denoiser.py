"""The UNet as the stream batch sees it: rows in, rows out, prompts already inside."""

from __future__ import annotations

import torch

from pipeline.attention_cache import AttentionCache, lay_out
from pipeline.guidance import RowLayout
from pipeline.models.model import Model


class Denoiser:
    """Calls a model's UNet with the prompts' cached keys and values.

    Two denoisers may share a UNet: each puts its own cache back before it calls.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache = AttentionCache(model.unet)
        self._prompts = torch.empty(0)
        self._rows: dict[RowLayout, torch.Tensor] = {}

    def set_prompts(self, positive: str, negative: str | None) -> None:
        """Encode the prompts; ``negative`` is None where no row ever asks for it."""
        texts = [positive] if negative is None else [positive, negative]
        self._prompts = torch.cat([self._model.prompts(text) for text in texts])
        self._refill()

    def _refill(self) -> None:
        self._rows.clear()
        self._cache.inject()
        self._cache.fill(self._prompts)

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        """(B, C or 2C, h, w) float32 latents and (B,) int64 timesteps to (B, C, h, w) float32 model outputs."""
        if not self._cache.injected or self._cache.stale:
            self._refill()
        self._cache.select(layout)
        if layout not in self._rows:
            self._rows[layout] = lay_out(self._prompts, layout)
        rows = latents.to(self._model.dtype, memory_format=torch.channels_last)
        # The embeddings go along because some UNets pool them into the time embedding as well.
        output = self._model.unet(rows, timesteps, self._rows[layout], return_dict=False)[0]
        return output.float()

    def close(self) -> None:
        """Give the UNet back as it was."""
        self._cache.eject()
