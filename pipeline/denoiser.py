"""The denoiser as the stream batch calls it: rows of latents in, rows of its output out; conditions are added here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch

from pipeline.backends.backend import Backend
from pipeline.conditioning.attention import project
from pipeline.conditioning.attention_guidance import AttentionGuidance
from pipeline.conditioning.conditions import Conditioning, Conditions, Rows
from pipeline.conditioning.feature_bank import FeatureBank
from pipeline.conditioning.guidance_embedding import GuidanceEmbedding
from pipeline.conditioning.image_prompts import ImagePrompts, Look
from pipeline.conditioning.picture_size import PictureSize
from pipeline.conditioning.prompt_syntax import Mix
from pipeline.conditioning.prompts import Prompts, PromptsBeside
from pipeline.config import StreamConfig
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.control_networks import SHOWN_TO_CONTROLNETS, ControlNetUse, ControlNetwork
from pipeline.models.model import Model
from pipeline.models.networks import DenoiserNetwork

_Moving = dict[str, torch.Tensor]
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
        self._latent_channels = model.autoencoder.latent_channels
        self._dtype = model.dtype
        self._controlnets: list[_ControlNet] = []
        place = model.device, model.dtype
        self._prompts = Prompts(model.projection, model.prompts)
        self._told = GuidanceEmbedding(model.guidance_width, *place)
        self._attention = AttentionGuidance(self._prompts, *place)
        self._sizes = [PictureSize(model.autoencoder.factor, *place)] if model.sized else []
        self._bank, self._images = FeatureBank(*place), ImagePrompts(*place)
        producers = (self._prompts, *self._sizes, self._told, self._attention, self._images, self._bank)
        self._conditioning = Conditioning(producers)

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

    def set_controlnets(self, used: Sequence[ControlNetUse]) -> None:
        """Call these ControlNets at each step, and add up their residuals by their weights."""
        known = {one.use.control: one for one in self._controlnets}
        self._controlnets = [
            _ControlNet(
                use, self._dtype, known[use.control].conditioning if use.control in known else self._told_of(use)
            )
            for use in used
        ]

    def _told_of(self, use: ControlNetUse) -> Conditioning:
        """What a ControlNet is told: the prompts by its own weights, and what else the model's denoiser is told."""
        return Conditioning([PromptsBeside(self._prompts, partial(project, use.control.module)), *self._sizes])

    def set_feature_bank(self, strength: float) -> None:
        """See ``FeatureBank.set``."""
        self._bank.set(strength)

    def forget_frames(self) -> None:
        """What comes next has nothing to do with the frames so far, or is to look otherwise."""
        self._bank.forget()

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
            rows: (B, C, 2C or 2C + 1, h, w) float32: the latent, and what some UNets are given beside it.
            timesteps: (B,).
            layout: which prompt is for which rows.
            carried: what the frames carry along that the denoiser is shown, (B, ...) each.

        Returns:
            (B, C, h, w) float32.
        """
        moving = {"rows": rows, "timesteps": timesteps, **carried}
        self._learn_bank(moving, layout)
        can = self.backend.capabilities
        if self._tick_layout is None or can.any_shape or can.splits_rows:
            return self._run(self.backend, self._controlled(self.backend, moving, layout), layout)
        # Calls that fill the slots have fewer rows than a tick, and an engine of their own would be of no other use.
        # They run on the tick's engine, with rows repeated up to its number, or without one while it is being built.
        padding = Padding(layout, self._tick_layout)
        padded = {name: padding.padded(tensor) for name, tensor in moving.items()}
        if self._controlnets_ready(padded, self._tick_layout):
            padded = self._controlled(self.backend, padded, self._tick_layout)
            if self.backend.ready(self._network, padded, self._conditions(padded["rows"], self._tick_layout)):
                return padding.taken_out(self._run(self.backend, padded, self._tick_layout))
        unbuilt = self.backend.unbuilt
        return self._run(unbuilt, self._controlled(unbuilt, moving, layout), layout)

    @contextlib.contextmanager
    def priming(self, tick_layout: RowLayout) -> Iterator[None]:
        """Inside, calls are of single positions of a stream batch whose ticks have the rows of ``tick_layout``."""
        self._tick_layout = tick_layout
        try:
            yield
        finally:
            self._tick_layout = None

    def _run(self, backend: Backend, moving: Mapping[str, torch.Tensor], layout: RowLayout) -> torch.Tensor:
        outputs = backend.run(self._network, moving, self._conditions(moving["rows"], layout))
        if self._tick_layout is None:  # rows of single positions are none that come again
            self._bank.saw(_rows(moving["rows"], layout), outputs)
        return outputs["output"]

    def _learn_bank(self, moving: Mapping[str, torch.Tensor], layout: RowLayout) -> None:
        """Have the denoiser show once, by a row, of which shape its banks are; no engine is built for that."""
        rows = _rows(moving["rows"], layout)
        if self._bank.in_use and not self._bank.knows(rows):
            one = {name: tensor[:1] for name, tensor in moving.items() if not name.startswith(SHOWN_TO_CONTROLNETS)}
            told = self._conditions(one["rows"], ((layout[0][0], 1),))
            self._bank.learn(rows, self.backend.unbuilt.run(self._network, one, told))

    def _controlled(self, backend: Backend, moving: Mapping[str, torch.Tensor], layout: RowLayout) -> _Moving:
        """What the denoiser is handed of ``moving``: the residuals of ControlNets in the place of their hints."""
        handed = {name: one for name, one in moving.items() if not name.startswith(SHOWN_TO_CONTROLNETS)}
        for one in self._shown_a_hint(moving):
            residuals = backend.run(one.network, *self._asked(one, moving, layout))
            for name, residual in residuals.items():
                if name in handed:
                    handed[name] = torch.add(handed[name], residual, alpha=one.use.weight)
                else:
                    handed[name] = residual if one.use.weight == 1 else residual * one.use.weight
        return handed

    def _controlnets_ready(self, moving: Mapping[str, torch.Tensor], layout: RowLayout) -> bool:
        ready = [
            self.backend.ready(one.network, *self._asked(one, moving, layout)) for one in self._shown_a_hint(moving)
        ]
        return all(ready)  # and all have been asked, so that all are ordered

    def _shown_a_hint(self, moving: Mapping[str, torch.Tensor]) -> list[_ControlNet]:
        """Those of the ControlNets for which the frames have brought something; all, once the next frame is here."""
        return [one for one in self._controlnets if one.use.hint in moving]

    def _asked(
        self, one: _ControlNet, moving: Mapping[str, torch.Tensor], layout: RowLayout
    ) -> tuple[_Moving, Conditions]:
        rows = moving["rows"][:, : self._latent_channels]  # none was made for what some models see besides
        given = {"rows": rows, "timesteps": moving["timesteps"], "hint": moving[one.use.hint]}
        return given, one.conditioning.laid_out(Rows(layout, rows.shape[2], rows.shape[3]))

    def _conditions(self, rows: torch.Tensor, layout: RowLayout) -> Conditions:
        return self._conditioning.laid_out(_rows(rows, layout))


def _rows(rows: torch.Tensor, layout: RowLayout) -> Rows:
    return Rows(layout, rows.shape[2], rows.shape[3])


class _ControlNet:
    """A ControlNet as it is called.

    Attributes:
        use: which one, shown what, with which weight.
        network: as backends run it.
        conditioning: what it is told.
    """

    def __init__(self, use: ControlNetUse, dtype: torch.dtype, conditioning: Conditioning) -> None:
        self.use = use
        self.network = ControlNetwork(use.control, dtype)
        self.conditioning = conditioning


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
