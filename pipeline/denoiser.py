"""The denoiser as the stream batch calls it: rows of latents in, rows of its output out; conditions are added here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch

from pipeline.backends.backend import Backend
from pipeline.conditioning.attention_guidance import AttentionGuidance
from pipeline.conditioning.conditions import Conditioning, Conditions, Rows
from pipeline.conditioning.guidance_embedding import GuidanceEmbedding
from pipeline.conditioning.image_prompts import ImagePrompts, Look
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
        self._tick_layout: RowLayout | None = None
        self._network = DenoiserNetwork(model)
        place = model.device, model.dtype
        self._prompts = Prompts(model.projection, model.prompts)
        self._told = GuidanceEmbedding(model.guidance_width, *place)
        self._attention = AttentionGuidance(self._prompts, *place)
        self._images = ImagePrompts(*place)
        sizes = [PictureSize(model.autoencoder.factor, *place)] if model.sized else []
        self._conditioning = Conditioning([self._prompts, *sizes, self._told, self._attention, self._images])

    def set_prompts(self, positive: str | Mix, negative: str | None = None, seconds: float = 0.0) -> None:
        """See ``Prompts.set``."""
        self._prompts.set(positive, negative, seconds)

    def set_guidance(self, config: StreamConfig) -> None:
        """Take from ``config`` the guidance inside the denoiser: the scale it is told, and that of its attentions."""
        self._told.set(config.guidance_scale)
        self._attention.set(config.attention_guidance, config.attention_limit, config.attention_blend)

    def set_look(self, look: Look | None, weight: float, seconds: float = 0.0) -> None:
        """See ``ImagePrompts.set``."""
        self._images.set(look, weight, seconds)

    def advance(self, at: float | None, frames: int) -> bool:
        """Carry the transitions of the prompts and of the look on: see ``Prompts.advance``."""
        turning = [one.advance(at, frames) for one in (self._prompts, self._images)]
        return any(turning)

    def weights_changed(self) -> None:
        """The denoiser's weights have changed: see ``Prompts.denoiser_changed``."""
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
        moving = {"rows": rows, "timesteps": timesteps, **carried}
        can = self.backend.capabilities
        if self._tick_layout is None or can.any_shape or can.splits_rows:
            return self._run(self.backend, moving, layout)
        # Calls that fill the slots have fewer rows than a tick, and an engine of their own would be of no other use.
        # They run on the tick's engine, with rows repeated up to its number, or without one while it is being built.
        padding = Padding(layout, self._tick_layout)
        padded = {name: padding.padded(tensor) for name, tensor in moving.items()}
        if self.backend.ready(self._network, padded, self._conditions(padded["rows"], self._tick_layout)):
            return padding.taken_out(self._run(self.backend, padded, self._tick_layout))
        return self._run(self.backend.unbuilt, moving, layout)

    @contextlib.contextmanager
    def priming(self, tick_layout: RowLayout) -> Iterator[None]:
        """Inside, calls are of single positions of a stream batch whose ticks have the rows of ``tick_layout``."""
        self._tick_layout = tick_layout
        try:
            yield
        finally:
            self._tick_layout = None

    def _run(self, backend: Backend, moving: Mapping[str, torch.Tensor], layout: RowLayout) -> torch.Tensor:
        return backend.run(self._network, moving, self._conditions(moving["rows"], layout))["output"]

    def _conditions(self, rows: torch.Tensor, layout: RowLayout) -> Conditions:
        return self._conditioning.laid_out(Rows(layout, rows.shape[2], rows.shape[3]))


class Padding:
    """Places the rows of a small call among those of a larger one, each under the same prompt in both.

    Args:
        small, large: layouts; the large one has at least as many rows under each prompt, in the same order.
    """

    def __init__(self, small: RowLayout, large: RowLayout) -> None:
        places, first = [], 0
        sources: list[int] = []
        counts = [count for _, count in small] + [0] * (len(large) - len(small))
        for (_, room), count in zip(large, counts, strict=True):
            start = sum(counts[: len(places)])
            own = list(range(start, start + count)) or [0]
            sources += [own[number % len(own)] for number in range(room)]
            places.append(range(first, first + count))
            first += room
        self._sources = torch.tensor(sources)
        self._places = torch.tensor([place for group in places for place in group])

    def padded(self, tensor: torch.Tensor) -> torch.Tensor:
        """(rows of the small call, ...) to (rows of the large one, ...)."""
        return tensor[self._sources.to(tensor.device)]

    def taken_out(self, tensor: torch.Tensor) -> torch.Tensor:
        """(rows of the large call, ...) to (rows of the small one, ...)."""
        return tensor[self._places.to(tensor.device)]
