"""The UNet as the stream batch sees it: rows in, rows out, prompts already inside."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.conditioning.attention_cache import AttentionCache, lay_out, stack
from pipeline.conditioning.prompt_syntax import Mix
from pipeline.conditioning.prompt_travel import Embedding, PromptTravel, mixed
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.model import Model


class Denoiser:
    """Calls a model's UNet with the prompts' cached keys and values.

    Two denoisers may share a UNet: each puts its own cache back before it calls.

    Attributes:
        backend: what runs the UNet; by default the model's.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.backend = model.backend
        self._cache = AttentionCache(model.unet)
        self._travel = PromptTravel()
        self._negative: Embedding | None = None
        self._prompts = torch.empty(0)
        self._pooled = torch.empty(0)
        self._revision = model.adapters.revision
        self._rows: dict[RowLayout, tuple[torch.Tensor, torch.Tensor]] = {}

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
        self._negative = None if negative is None else self._model.prompts.embed_negative(negative)
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
        prompts = [mixed(self._sources(), row) for row in rows]
        self._prompts = stack([prompt.tokens for prompt in prompts])
        self._pooled = torch.cat([prompt.pooled for prompt in prompts if prompt.pooled is not None] or [self._prompts])
        self._rows.clear()

    def _sources(self) -> list[Embedding]:
        return [*self._travel.sources, *([] if self._negative is None else [self._negative])]

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        layout: RowLayout,
        carried: Mapping[str, torch.Tensor] | None = None,  # noqa: ARG002 - nothing travels with the frames yet
    ) -> torch.Tensor:
        """(B, C or 2C, h, w) float32 latents and (B,) timesteps to (B, C, h, w) float32 model outputs."""
        revision = self._model.adapters.revision
        if self._cache.injected and (self._cache.stale or self._revision != revision):
            self._revision = revision
            self.backend.weights_changed()
            self._refill()
        elif not self._cache.injected:
            self._refill()
        if layout not in self._rows:
            self._rows[layout] = lay_out(self._prompts, layout), lay_out(self._pooled, layout)
        tokens, pooled = self._rows[layout]
        # The embeddings go along because some UNets pool them into the time embedding as well.
        added = self._added(latents, pooled) if self._model.sized else None
        return self.backend.denoise(latents, timesteps, tokens, self._cache, layout, added)

    def _added(self, rows: torch.Tensor, pooled: torch.Tensor) -> dict[str, torch.Tensor]:
        """What SDXL's UNet is told besides (arXiv 2307.01952, section 2.2)."""
        factor = self._model.autoencoder.factor
        height, width = rows.shape[2] * factor, rows.shape[3] * factor
        # Original size, where it was cut, and the size wanted: the picture is whole and as it should be.
        size = torch.tensor([height, width, 0, 0, height, width], dtype=pooled.dtype).to(pooled.device)
        return {"text_embeds": pooled, "time_ids": size.expand(len(rows), -1)}

    def close(self) -> None:
        """Give the UNet back as it was."""
        self._cache.eject()
