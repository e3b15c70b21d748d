"""Modules of diffusers and transformers, built on weights that were read here, so that nothing else opens a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import nn

from pipeline.conditioning.text_model import TextModel
from pipeline.device import number_format
from pipeline.models.errors import ModelError, explained
from pipeline.models.memory import LayerOffload
from pipeline.models.modules import Buildable
from pipeline.models.weights import is_finite

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig

Built = TypeVar("Built", bound=nn.Module)

# Entries of a configuration that say how many layers of a kind there are.
_COUNTS = (
    "layers_per_block",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "num_encoder_blocks",
    "num_decoder_blocks",
    "num_hidden_layers",
)

_INNER = "text_model."
# In the names of the weights of CLIP's layers, nearly all that there are.
_OF_LAYERS = ".layers."

State = Mapping[str, torch.Tensor]


def build_diffusers(
    what: str, kind: Buildable[Built], config: Mapping[str, object], state: State, dtype: torch.dtype
) -> tuple[Built, list[str]]:
    """A model of diffusers, and the names of those weights that it has no place for.

    Its weights are copies, so that the file may change afterwards.

    Args:
        what: the part and where it lies, as in "the UNet in PATH".
        kind: the class.
        config: its configuration, as ``config.json`` has it.
        state: its weights by name.
        dtype: their number format in the model.

    Raises:
        ModelError: the configuration makes no model, or the weights are not all that it needs.
    """
    _check_counts(what, config, state)
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    with explained(what), torch.device("meta"):
        module = kind.from_config(arguments)
    fitting, unused = _fitted(what, module, state)
    with explained(what):
        copies = {name: tensor.to(dtype, copy=True) for name, tensor in fitting.items()}
        _check_range(what, fitting, copies)
        module.load_state_dict(copies, assign=True)
    return module, unused


def build_text_encoder(
    what: str, kind: type[CLIPTextModel | CLIPTextModelWithProjection], config: CLIPTextConfig, state: State
) -> tuple[TextModel, list[str]]:
    """A text encoder of transformers in float32, and the names of those weights that it has no place for.

    A text encoder runs once a prompt: float32 costs nothing that matters, and is exact.

    Args:
        what: the part and where it lies.
        kind: ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
        config: its ``CLIPTextConfig``.
        state: its weights, with or without ``text_model.`` before the names.

    Raises:
        ModelError: the configuration makes no model, or the weights are not all that it needs.
    """
    _check_counts(what, config.to_dict(), state)
    with explained(what), torch.device("meta"):
        bare = kind(config)
    # Whether the names begin with ``text_model.`` differs between the two classes, and between releases.
    wanted = {name.removeprefix(_INNER): name for name in bare.state_dict()}
    plain = {name: name.removeprefix(_INNER) for name in state}
    renamed = {wanted.get(inner, inner): state[name] for name, inner in plain.items()}
    fitting, unused = _fitted(what, bare, renamed)
    with explained(what):
        copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in fitting.items()}
        module = kind.from_pretrained(None, config=config, state_dict=copies, dtype=torch.float32)
    return cast(TextModel, module.eval()), unused


def fill(what: str, module: Built, state: State) -> Built:
    """``module``, which was made without memory (on the device ``meta``), with weights in float32, for the CPU.

    Args:
        what: the part and where it lies.
        module: has no buffers.
        state: its weights by name; others are passed over.

    Raises:
        ModelError: the weights are not all that it needs.
    """
    fitting, _ = _fitted(what, module, state)
    with explained(what):
        weights = {name: one.to(torch.float32, copy=True) for name, one in fitting.items()}
        module.load_state_dict(weights, assign=True)
    return module.eval().requires_grad_(False)


def build_image_encoder(what: str, config: CLIPVisionConfig, state: State) -> nn.Module:
    """A ``CLIPVisionModelWithProjection`` on the CPU that calculates in float32.

    The weights of its layers are ``state`` itself, in the number format that it is stored in, and each layer is given
    float32 while it runs: an encoder of two billion weights takes no memory of its own.

    Args:
        what: the encoder and where it lies.
        config: its configuration.
        state: its weights, which may be those of the whole of CLIP.

    Raises:
        ModelError: the configuration makes no model, or the weights are not all that it needs.
    """
    from transformers import CLIPVisionModelWithProjection

    _check_counts(what, config.to_dict(), state)
    with explained(what), torch.device("meta"):
        module = CLIPVisionModelWithProjection(config)
    fitting, _ = _fitted(what, module, state)
    with explained(what):
        weights = {name: one if _OF_LAYERS in name else one.float() for name, one in fitting.items()}
        module.load_state_dict(weights, assign=True)
        for inner in module.modules():
            places = getattr(inner, "position_ids", None)  # which are not among the weights
            if isinstance(places, torch.Tensor):
                inner.register_buffer("position_ids", torch.arange(places.numel())[None], persistent=False)
    module.eval().requires_grad_(False)
    LayerOffload(module, torch.device("cpu"), torch.float32).inject()
    return module


def _check_range(what: str, stored: State, converted: State) -> None:
    """Refuse weights that are finite as they are stored, but too large for the number format of the model."""
    for name, tensor in converted.items():
        if tensor.dtype != stored[name].dtype and not is_finite(tensor) and is_finite(stored[name]):
            format_name = number_format(tensor.dtype)
            raise ModelError(
                f"{what} has numbers in {name} that are too large for {format_name}; choose another format"
            )


def _check_counts(what: str, config: Mapping[str, object], state: State) -> None:
    """Refuse a configuration with more layers than the file has weights, before they are all made."""
    for entry in _COUNTS:
        for number in _flat(config.get(entry)):
            if isinstance(number, int) and number > len(state):
                raise ModelError(
                    f"{what} is damaged: its configuration has {number} for {entry}, but there are only "
                    f"{len(state)} tensors of weights"
                )


def _flat(value: object) -> list[object]:
    return [inner for one in value for inner in _flat(one)] if isinstance(value, list | tuple) else [value]


def _fitted(what: str, module: nn.Module, state: State) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights that ``module`` needs, out of ``state``, and the names of the others."""
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    if missing:
        raise ModelError(
            f"{what} is incomplete: {len(missing)} of its {len(wanted)} tensors are missing, such as {missing[0]}; "
            "get it again, or take another model"
        )
    for name, place in wanted.items():
        if state[name].shape != place.shape:
            raise ModelError(
                f"{what} does not fit its configuration: {name} has the shape {tuple(state[name].shape)}, and should "
                f"have {tuple(place.shape)}; it is of a kind that is not known here, or damaged"
            )
    return {name: state[name] for name in wanted}, sorted(set(state) - set(wanted))
