"""The denoiser as the stream batch sees it: rows in, rows out, all that it is told besides already inside."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.backends.backend import Backend
from pipeline.conditioning.attention_guidance import AttentionGuidance
from pipeline.conditioning.conditions import Conditioning, Rows
from pipeline.conditioning.guidance_embedding import GuidanceEmbedding
from pipeline.conditioning.picture_size import PictureSize
from pipeline.conditioning.prompt_syntax import Mix
from pipeline.conditioning.prompts import Prompts
from pipeline.config import StreamConfig
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.models.networks import DenoiserNetwork

_NOTHING: Mapping[str, torch.Tensor] = {}


class Denoiser:
    """Calls a model's denoiser under the stream's conditions.

    Attributes:
        backend: what runs it.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self.backend = backend
        self._network = DenoiserNetwork(model)
        place = model.device, model.dtype
        self._prompts = Prompts(model.unet, model.prompts)
        self._told = GuidanceEmbedding(model.guidance_width, *place)
        self._attention = AttentionGuidance(self._prompts, *place)
        sizes = [PictureSize(model.autoencoder.factor, *place)] if model.sized else []
        self._conditioning = Conditioning([self._prompts, *sizes, self._told, self._attention])

    def set_prompts(self, positive: str | Mix, negative: str | None = None, seconds: float = 0.0) -> None:
        """See ``Prompts.set``."""
        self._prompts.set(positive, negative, seconds)

    def set_guidance(self, config: StreamConfig) -> None:
        """Take over what of the guidance the denoiser itself is told, or does inside of its attentions."""
        self._told.set(config.guidance_scale)
        self._attention.set(config.attention_guidance, config.attention_limit, config.attention_blend)

    def advance(self, at: float | None, frames: int) -> bool:
        """See ``Prompts.advance``."""
        return self._prompts.advance(at, frames)

    def weights_changed(self) -> None:
        """The denoiser's weights are others."""
        self._prompts.denoiser_changed()

    def __call__(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        layout: RowLayout,
        carried: Mapping[str, torch.Tensor] = _NOTHING,
    ) -> torch.Tensor:
        """One call.

        Args:
            rows: (B, C or 2C, h, w) float32.
            timesteps: (B,).
            layout: which prompt is for which rows.
            carried: what the frames carry along that the denoiser is shown, (B, ...) each.

        Returns:
            (B, C, h, w) float32.
        """
        conditions = self._conditioning.laid_out(Rows(layout, rows.shape[2], rows.shape[3]))
        return self.backend.run(self._network, {"rows": rows, "timesteps": timesteps, **carried}, conditions)["output"]
