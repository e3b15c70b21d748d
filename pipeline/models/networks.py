"""The networks of a model, as every backend runs them: named tensors in, named tensors out.

A backend knows nothing of what a network is for. It asks it for a module, which stands on the model's own weights, and
runs that as it is, captures it, or compiles a copy of it. ControlNets, adapters (``control_networks.py``), windows of a
UNet or an upscaler are further networks, and need nothing from a backend that the three in this file do not need.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import nn

from pipeline.conditioning.attention import condition, route
from pipeline.conditioning.effects import EFFECTS
from pipeline.conditioning.feature_bank import banked, found_by, route_banks
from pipeline.models.residency import AUTOENCODER, DENOISER

if TYPE_CHECKING:
    from pipeline.models.model import Model

AnyModule = TypeVar("AnyModule", bound=nn.Module)

# Inputs of the denoiser beside its conditions: features of T2I-Adapters by level, residuals of ControlNets by layer.
FEATURES, RESIDUALS, MIDDLE = "shape_features_", "shape_residuals_", "shape_middle"


class Network(Protocol):
    """One network of a model.

    All inputs and outputs have their rows in dimension 0, and no row looks at another: a backend may run some of the
    rows at a time.

    Attributes:
        name: the same for the same network of the same model; engines are known by it.
        part: the part of the model whose weights it stands on; ``Backend.changed`` is told that part's name.
        open_sizes: whether its graph can be written for any number of rows, any height and any width at once.
        window: whether its inputs are small parts of those that the model was made for.
    """

    @property
    def name(self) -> str: ...

    @property
    def part(self) -> str: ...

    @property
    def open_sizes(self) -> bool: ...

    @property
    def window(self) -> bool: ...

    def module(self) -> nn.Module:
        """A module of its own on the model's own weights: ``forward(**tensors)`` gives a dict of tensors.

        The part of the model is its submodule of the part's name (``denoiser``, ``autoencoder``). Its structure is the
        caller's to change; the weights are shared, and are the residency's alone.
        """
        ...


def sharing_weights(module: AnyModule) -> AnyModule:
    """A copy of a module's structure around the very same parameters and buffers."""
    return _around(module, lambda one: one)


def placed(module: AnyModule, place: Callable[[torch.Tensor], torch.Tensor]) -> AnyModule:
    """A copy of a module's structure around what ``place`` makes of each of its parameters and buffers."""

    def made(one: torch.Tensor) -> torch.Tensor:
        new = place(one)
        return nn.Parameter(new, requires_grad=False) if isinstance(one, nn.Parameter) else new

    return _around(module, made)


def _around(module: AnyModule, made: Callable[[torch.Tensor], torch.Tensor]) -> AnyModule:
    memo: dict[int, object] = {id(one): made(one) for one in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, memo)


class EncoderNetwork:
    """Pictures to latents: ``pictures`` (F, 3, H, W) in 0..1 to ``latents`` (F, C, h, w) float32."""

    name, part, open_sizes, window = "encoder", AUTOENCODER, True, False

    def __init__(self, model: Model) -> None:
        self._model = model

    def module(self) -> nn.Module:
        return _Encoder(self._model)


class DecoderNetwork:
    """Latents to pictures: ``latents`` (F, C, h, w) to ``pictures`` (F, 3, H, W) float32 in 0..1."""

    name, part, open_sizes, window = "decoder", AUTOENCODER, True, False

    def __init__(self, model: Model) -> None:
        self._model = model

    def module(self) -> nn.Module:
        return _Decoder(self._model)


class DenoiserNetwork:
    """Noisy latents to the model's output.

    ``rows`` (B, C, 2C or 2C + 1, h, w), ``timesteps`` (B,) and what the conditioning says (see
    ``pipeline.conditioning``) to ``output`` (B, C, h, w) float32. Where a shape is kept, ``shape_features_N``,
    ``shape_residuals_N`` and ``shape_middle`` (B, ...) are added inside (see ``pipeline.models.control_networks``).
    With a feature bank it also gives what goes into it.
    """

    name, part, open_sizes, window = "denoiser", DENOISER, False, False

    def __init__(self, model: Model) -> None:
        self._model = model

    def module(self) -> nn.Module:
        return _Denoiser(sharing_weights(self._model.unet), self._model.dtype)


class Formatted(nn.Module):
    """Takes its inputs in the number format of its weights, whichever that is after ``float()`` or ``half()``."""

    _format: torch.Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("_format", torch.empty(0, dtype=dtype), persistent=False)

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._format.dtype, memory_format=torch.channels_last)


class _Autoencoding(Formatted):
    def __init__(self, model: Model) -> None:
        super().__init__(model.autoencoder.module.dtype)
        self.autoencoder = sharing_weights(model.autoencoder.module)
        self._coding = model.autoencoder.coding


class _Encoder(_Autoencoding):
    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"latents": self._coding.encode(self.autoencoder, self._laid_out(pictures)).float()}


class _Decoder(_Autoencoding):
    def forward(self, latents: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pictures": self._coding.decode(self.autoencoder, self._laid_out(latents))}


class ConditionedUNet(Formatted):
    """A ``UNet2DConditionModel`` whose conditions are inputs; its ``forward`` is a subclass's.

    Args:
        unet: a structure of its own; its cross-attentions' processors are replaced.
        dtype: of its weights.
    """

    def __init__(self, unet: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.denoiser = unet
        self._attentions = condition(unet, EFFECTS)

    def call_unet(
        self, rows: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, conditions: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The UNet's output (B, C, h, w) float32."""
        dtype = self._format.dtype
        given = {name: tensor.to(dtype) for name, tensor in conditions.items()}
        route(self._attentions, given)
        # Some UNets pool the tokens into the time embedding, which is why they go along with cached keys and values.
        output = self.denoiser(
            self._laid_out(rows),
            timesteps,
            tokens.to(dtype),
            timestep_cond=given.get("guidance_embedding"),
            added_cond_kwargs=added_conditions(given),
            # diffusers takes the features out of the list as it goes.
            down_intrablock_additional_residuals=_in_order(given, FEATURES) or None,
            down_block_additional_residuals=tuple(_in_order(given, RESIDUALS)) or None,
            mid_block_additional_residual=given.get(MIDDLE),
            return_dict=False,
        )
        return output[0].float()


def _in_order(given: dict[str, torch.Tensor], name: str) -> list[torch.Tensor]:
    """The tensors ``name0``, ``name1`` and so on, as far as there are."""
    found: list[torch.Tensor] = []
    while (one := given.get(f"{name}{len(found)}")) is not None:
        found.append(one)
    return found


class _Denoiser(ConditionedUNet):
    def __init__(self, unet: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(unet, dtype)
        self._banked = banked(unet)

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, **conditions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        route_banks(self._banked, {name: one.to(self._format.dtype) for name, one in conditions.items()})
        output = self.call_unet(rows, timesteps, tokens, conditions)
        return {"output": output, **found_by(self._banked)}


def added_conditions(conditions: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """What SDXL's UNet is told besides, by the names that diffusers has for it."""
    if "time_ids" not in conditions:
        return None
    return {"text_embeds": conditions["pooled"], "time_ids": conditions["time_ids"]}
