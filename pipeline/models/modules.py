"""What is used of the modules of diffusers, as types.

diffusers says of each configuration that it is a ``dict[str, Any]``, and its two autoencoders have no type in common.
The types here name the entries and methods that are used, and nothing else. Python cannot say "a ``torch.nn.Module``
that also has these": ``UNet`` and ``AutoencoderModule`` are therefore classes that nothing is ever an instance of.
diffusers' own classes are cast to them in one place: ``unet_class``, ``autoencoder_classes`` and ``control_classes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict, TypeVar, cast

import torch
from torch import nn

Built_co = TypeVar("Built_co", bound=nn.Module, covariant=True)


class UNetConfig(TypedDict):
    """What is read of the configuration of a ``UNet2DConditionModel``, which has all of these entries."""

    in_channels: int
    out_channels: int
    sample_size: object  # as the file has it; see ``model_parts.latent_side``
    layers_per_block: int | Sequence[int]
    block_out_channels: Sequence[int]
    cross_attention_dim: int | Sequence[int]
    addition_embed_type: str | None
    time_cond_proj_dim: int | None


class UNet(nn.Module):
    """A ``UNet2DConditionModel``."""

    config: UNetConfig


class AutoencoderConfig(TypedDict):
    """What is read of the configuration of an ``AutoencoderTiny`` or an ``AutoencoderKL``."""

    latent_channels: int
    block_out_channels: Sequence[int]
    encoder_block_out_channels: NotRequired[Sequence[int]]  # of the tiny one
    scaling_factor: NotRequired[float | None]
    shift_factor: NotRequired[float | None]


class Distribution(Protocol):
    """The latents that a full autoencoder finds possible."""

    def mode(self) -> torch.Tensor:
        """The most likely ones."""
        ...


class PictureCoder(Protocol):
    """What ``AutoencoderTiny`` and ``AutoencoderKL`` have in common."""

    config: AutoencoderConfig
    dtype: torch.dtype

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor | Distribution, ...]:
        """Pictures in -1..1 to latents (the tiny one) or their distribution; a tuple unless ``return_dict``."""
        ...

    def decode(self, z: torch.Tensor, /, *, return_dict: bool = True) -> tuple[torch.Tensor, ...]:
        """Latents to pictures in -1..1; a tuple unless ``return_dict``."""
        ...


class AutoencoderModule(nn.Module, PictureCoder):
    """An ``AutoencoderTiny`` or an ``AutoencoderKL``."""


class Buildable(Protocol[Built_co]):
    """A class of diffusers."""

    def from_config(self, config: Mapping[str, object]) -> Built_co:
        """A module of this configuration, with weights that mean nothing yet."""
        ...


def unet_class() -> Buildable[UNet]:
    """``UNet2DConditionModel``, imported where it is first needed: importing it takes seconds."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return cast(Buildable[UNet], UNet2DConditionModel)


def autoencoder_classes() -> dict[str, Buildable[AutoencoderModule]]:
    """The classes of autoencoders that are known, by the name that a configuration has for each."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    known = {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL}
    return cast(dict[str, Buildable[AutoencoderModule]], known)


def control_classes() -> dict[str, Buildable[nn.Module]]:
    """diffusers' classes for what keeps a shape, by the names of ``ControlKind``."""
    from diffusers.models.adapter import T2IAdapter
    from diffusers.models.controlnets.controlnet import ControlNetModel

    return cast(dict[str, Buildable[nn.Module]], {"ADAPTER": T2IAdapter, "CONTROLNET": ControlNetModel})


def replace_layer(module: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` in place of a layer of ``module``; whatever was called before the layer is called before it, too.

    Args:
        name: as ``named_modules`` has it.
    """
    parent, _, leaf = name.rpartition(".")
    new._forward_pre_hooks.update(module.get_submodule(name)._forward_pre_hooks)
    setattr(module.get_submodule(parent), leaf, new)
