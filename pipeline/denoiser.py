"""The UNet as the stream batch sees it: rows in, rows out, prompts already inside."""

from __future__ import annotations

import torch

from pipeline.attention_cache import AttentionCache, lay_out, stack
from pipeline.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.prompt import Mix
from pipeline.prompt_travel import Embedding, PromptTravel, combine


class Denoiser:
    """Calls a model's UNet with the prompts' cached keys and values.

    Two denoisers may share a UNet: each puts its own cache back before it calls.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache = AttentionCache(model.unet)
        self._travel = PromptTravel()
        self._negative: Embedding | None = None
        self._prompts = torch.empty(0)
        self._rows: dict[RowLayout, torch.Tensor] = {}

    def set_prompts(self, positive: str | Mix, negative: str | None = None, seconds: float = 0.0) -> None:
        """Encode the prompts.

        Args:
            positive: one prompt, or a mixture.
            negative: None where no row ever asks for it.
            seconds: how long the way from the mixture before to this one takes; at once before the first frame.
        """
        before = self._travel.sources, self._negative
        texts = ((positive, 1.0),) if isinstance(positive, str) else positive
        self._travel.head_for([(self._model.prompts.embed(text), weight) for text, weight in texts], seconds)
        self._negative = None if negative is None else self._model.prompts.embed(negative)
        if (self._travel.sources, self._negative) == before and self._cache.injected:
            self._weigh()
        else:
            self._refill()

    def advance(self, at: float | None, frames: int) -> bool:
        """The next ``frames`` frames are here, the last of them of time ``at``: whether a transition went on."""
        turning = self._travel.advance(at, frames)
        if turning:
            self._weigh()
        return turning

    def _refill(self) -> None:
        self._cache.inject()
        self._cache.fill([source.tokens for source in self._sources()])
        self._weigh()

    def _weigh(self) -> None:
        """Mix the prompts anew, from the keys and values that are there."""
        weights = self._travel.weights
        rows = [weights] if self._negative is None else [(*weights, 0.0), (*(0.0,) * len(weights), 1.0)]
        self._cache.weigh(rows)
        self._prompts = stack([combine([source.tokens for source in self._sources()], row) for row in rows])
        self._rows.clear()

    def _sources(self) -> list[Embedding]:
        return [*self._travel.sources, *([] if self._negative is None else [self._negative])]

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        """(B, C or 2C, h, w) float32 latents and (B,) int64 timesteps to (B, C, h, w) float32 model outputs."""
        if self._cache.injected and self._cache.stale:
            self._model.backend.weights_changed()
            self._refill()
        elif not self._cache.injected:
            self._refill()
        if layout not in self._rows:
            self._rows[layout] = lay_out(self._prompts, layout)
        # The embeddings go along because some UNets pool them into the time embedding as well.
        return self._model.backend.denoise(latents, timesteps, self._rows[layout], self._cache, layout)

    def close(self) -> None:
        """Give the UNet back as it was."""
        self._cache.eject()
