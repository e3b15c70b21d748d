"""Which control of shape a file of weights holds, and its weights by the names that diffusers has for them.

T2I-Adapters (arXiv 2302.08453) and ControlNets (arXiv 2302.05543) are about in their authors' layouts and in that of
diffusers. Which of them a file is in, and for which family of models it was made, is told by names and shapes alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum

import torch

from pipeline.models.errors import ModelError
from pipeline.models.lora_names import is_lora
from pipeline.models.original_layout import unet_name

State = Mapping[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]


class ControlKind(Enum):
    """The kinds of networks that keep a shape, by their names for people."""

    ADAPTER = "T2I-Adapter"
    CONTROLNET = "ControlNet"


# Files that are neither, or of a kind that cannot be run, by a piece of a name that each of them has.
_OTHERS = {
    "lllite_": "is a ControlNet-LLLite, which is not known here; take a ControlNet or a T2I-Adapter",
    "lora_controlnet": "is a Control-LoRA, which holds a part of a ControlNet only; take the whole ControlNet",
    "task_embedding": "is a ControlNet for many kinds of hints (Union), which is not known here; take one for one kind",
    "double_blocks.": "is made for Flux models, which are not known here",
    "controlnet_x_embedder.": "is made for Flux models, which are not known here",
    "pos_embed_input.": "is made for Stable Diffusion 3 models, which are not known here",
    "ip_adapter.": "is an IP-Adapter: give this file as --look-model",
    "difference": "is the difference of a ControlNet to one model, which is not known here; take the whole ControlNet",
}
_PREFIX = "control_model."
_WHOLE_MODEL = "model.diffusion_model."
_HINT = "controlnet_cond_embedding."
_ADAPTER = "adapter."


def control_kind(shapes: Shapes) -> ControlKind | None:
    """Which kind of control has tensors of these names, also one that cannot be run; None where it is no control."""
    if f"{_HINT}conv_in.weight" in shapes or _original(shapes, "input_hint_block.0.weight"):
        return ControlKind.CONTROLNET
    return ControlKind.ADAPTER if any(re.match(r"(adapter\.)?body\.0\.", name) for name in shapes) else None


def kind_of(what: str, shapes: Shapes) -> ControlKind:
    """Which kind of control has tensors of these ``shapes``.

    Args:
        what: the file or folder, for the sentence.

    Raises:
        ModelError: none that is known here; the sentence says what it is instead, where that can be told.
    """
    for mark, is_other in _OTHERS.items():
        if any(mark in name for name in shapes):
            raise ModelError(f"{what} {is_other}")
    kind = control_kind(shapes)
    if kind is not None:
        return kind
    if is_lora(shapes):
        raise ModelError(f"{what} is a LoRA: give this file as --lora")
    if any(name.startswith((_WHOLE_MODEL, "down_blocks.")) for name in shapes):
        raise ModelError(f"{what} is a model, and not a control of one: give it as --model")
    raise ModelError(f"{what} is neither a T2I-Adapter nor a ControlNet that is known here; take another file")


def _original(shapes: Shapes, name: str) -> bool:
    return name in shapes or _PREFIX + name in shapes


def controlnet_state(state: State) -> dict[str, torch.Tensor]:
    """The weights of a ControlNet by diffusers' names; those of a model beside it are left out.

    Args:
        state: in diffusers' layout or the authors', there with or without ``control_model.`` before the names.
    """
    if any(name.startswith(_HINT) for name in state):
        return dict(state)
    if any(name.startswith(_PREFIX) for name in state):
        state = {name.removeprefix(_PREFIX): one for name, one in state.items() if name.startswith(_PREFIX)}
    levels = 1 + len(_numbers(state, r"input_blocks\.(\d+)\.0\.op\.weight"))
    layers = len(_numbers(state, r"input_blocks\.(\d+)\.")) // levels - 1
    last = max(_numbers(state, r"input_hint_block\.(\d+)\."), default=0)
    return {_controlnet_name(name, layers, last): tensor for name, tensor in state.items()}


def _controlnet_name(name: str, layers: int, last: int) -> str:
    """``layers`` are those of each level, ``last`` is the number of the last layer of the hint's embedding."""
    if match := re.match(r"input_hint_block\.(\d+)\.(.+)", name):
        number = int(match[1])  # an activation stands between each two
        place = "conv_in" if not number else "conv_out" if number == last else f"blocks.{number // 2 - 1}"
        return f"{_HINT}{place}.{match[2]}"
    if match := re.match(r"zero_convs\.(\d+)\.0\.(.+)", name):
        return f"controlnet_down_blocks.{match[1]}.{match[2]}"
    if match := re.match(r"middle_block_out\.0\.(.+)", name):
        return f"controlnet_mid_block.{match[1]}"
    return unet_name(name, layers)


def adapter_state(state: State) -> dict[str, torch.Tensor]:
    """The weights of a T2I-Adapter by diffusers' names.

    The authors' full adapter numbers its blocks over all levels, in diffusers they are counted within a level.
    """
    plain = {name.removeprefix(_ADAPTER): tensor for name, tensor in state.items()}
    if any(".resnets." in name for name in plain):
        return {_ADAPTER + name: tensor for name, tensor in plain.items()}
    if any(re.match(r"body\.\d+\.body\.", name) for name in plain):
        return {_ADAPTER + re.sub(r"^(body\.\d+)\.body\.", r"\1.resnets.", name): one for name, one in plain.items()}
    # A level begins where the width changes; the last level of the full adapter has the width of the one before.
    per_level = min(_numbers(plain, r"body\.(\d+)\.in_conv\."), default=1)
    return {_ADAPTER + _adapter_name(name, per_level): tensor for name, tensor in plain.items()}


def _adapter_name(name: str, per_level: int) -> str:
    match = re.match(r"body\.(\d+)\.(.+)", name)
    if match is None:
        return name
    level, block = divmod(int(match[1]), per_level)
    return f"body.{level}.{match[2] if match[2].startswith('in_conv.') else f'resnets.{block}.{match[2]}'}"


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    """The numbers that the one group of ``pattern`` stands for."""
    return {int(match[1]) for name in names if (match := re.match(pattern, name))}
