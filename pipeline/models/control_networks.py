"""The networks that keep a shape, as every backend runs them.

A T2I-Adapter sees the hint alone (arXiv 2302.08453, section 3.3): its features are made once for a frame, and serve all
of its steps. A ControlNet sees the noisy latents besides (arXiv 2302.05543, section 3.2), and is called at every step;
of it, the embedding of the hint is made once for a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pipeline.conditioning.attention import condition, route
from pipeline.models.control_files import Control
from pipeline.models.networks import FEATURES, MIDDLE, RESIDUALS, Formatted, added_conditions, sharing_weights

# What frames bring along for ControlNets, and the denoiser is not handed, has names that begin so.
SHOWN_TO_CONTROLNETS = "shape_hint/"


@dataclass(frozen=True, slots=True)
class ControlNetUse:
    """One of the ControlNets that are called at each step.

    Attributes:
        control: which one.
        hint: the name of what frames bring along of its hint.
        weight: of its residuals.
    """

    control: Control
    hint: str
    weight: float


class AdapterNetwork:
    """``pictures`` (F, 3, H, W) in 0..1, of multiples of ``control.fold``, to ``shape_features_N`` (F, C, h, w)."""

    open_sizes, window = True, False

    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        self.name = self.part = control.part
        self._control, self._dtype = control, dtype

    def module(self) -> nn.Module:
        return _Adapter(self._control, self._dtype)


class HintNetwork:
    """A ControlNet's embedding of its hint: ``pictures`` (F, 3, H, W) in 0..1 to ``hint`` (F, C, h, w)."""

    open_sizes, window = True, False

    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        self.name, self.part = f"{control.part}/hint", control.part
        self._control, self._dtype = control, dtype

    def module(self) -> nn.Module:
        return _Hint(self._control, self._dtype)


class ControlNetwork:
    """A ControlNet without the embedding of its hint.

    ``rows`` (B, C, h, w), ``timesteps`` (B,), ``hint`` (B, C', h, w) and the prompts of ``pipeline.conditioning`` to
    ``shape_residuals_N`` and ``shape_middle`` (B, ...) float32.
    """

    open_sizes, window = False, False

    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        self.name = self.part = control.part
        self._control, self._dtype = control, dtype

    def module(self) -> nn.Module:
        return _ControlNet(self._control, self._dtype)


class _OfHint(Formatted):
    def __init__(self, control: Control, dtype: torch.dtype, layers: nn.Module) -> None:
        super().__init__(dtype)
        self._grey = control.grey
        self._part = control.part
        self.add_module(control.part, sharing_weights(layers))

    def _seen(self, pictures: torch.Tensor) -> torch.Tensor:
        return self._laid_out(pictures.mean(1, keepdim=True) if self._grey else pictures)


class _Adapter(_OfHint):
    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        super().__init__(control, dtype, control.module)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.get_submodule(self._part)(self._seen(pictures))
        return {f"{FEATURES}{number}": feature.float() for number, feature in enumerate(features)}


class _Hint(_OfHint):
    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        super().__init__(control, dtype, control.module.get_submodule("controlnet_cond_embedding"))

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hint": self.get_submodule(self._part)(self._seen(pictures)).float()}


class _ControlNet(Formatted):
    def __init__(self, control: Control, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        controlnet = sharing_weights(control.module)
        setattr(controlnet, "controlnet_cond_embedding", nn.Identity())  # noqa: B010 - a module takes any
        self._attentions = condition(controlnet)
        self._part = control.part
        self.add_module(control.part, controlnet)

    def forward(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        hint: torch.Tensor,
        tokens: torch.Tensor,
        **conditions: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        dtype = self._format.dtype
        given = {name: tensor.to(dtype) for name, tensor in conditions.items()}
        route(self._attentions, given)
        residuals, middle = self.get_submodule(self._part)(
            self._laid_out(rows),
            timesteps,
            tokens.to(dtype),
            self._laid_out(hint),
            added_cond_kwargs=added_conditions(given),
            return_dict=False,
        )
        found = {f"{RESIDUALS}{number}": residual.float() for number, residual in enumerate(residuals)}
        return {**found, MIDDLE: middle.float()}
