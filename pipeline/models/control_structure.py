"""The configuration of a T2I-Adapter or ControlNet, read off the shapes of its weights, and which models it fits.

A single file holds tensors and no configuration. What diffusers would need beside them is read off here, at any width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.models.control_layouts import ControlKind, Shapes
from pipeline.models.errors import ModelError
from pipeline.models.families import SD1, SD2, SDXL, Family
from pipeline.models.modules import UNetConfig

# The width of one attention head from Stable Diffusion 2 on; before, there were eight heads of any width.
_HEAD, _FIRST_HEADS = 64, 8
_SIZE_EMBEDDING = 256
# Pixels of the picture, a side, that a full adapter folds into one: eight for a latent's, sixteen for SDXL's.
_FOLD, _FOLD_XL = 8, 16
# Channels of a folded picture that only SDXL's adapters have: of a grey one, and of a coloured one.
_FOLDED_XL = (_FOLD_XL**2, 3 * _FOLD_XL**2)

Config = Mapping[str, object]


def adapter_config(shapes: Shapes) -> dict[str, object]:
    """The configuration of the ``T2IAdapter`` with these ``shapes``, by the names of diffusers.

    Raises:
        LookupError: it is of no structure that diffusers has.
    """
    levels = _count(shapes, r"adapter\.body\.(\d+)\.")
    blocks = _count(shapes, r"adapter\.body\.0\.resnets\.(\d+)\.")
    if "adapter.conv_in.weight" not in shapes:
        widths = [shapes[f"adapter.body.{level}.out_conv.weight"][0] for level in range(levels)]
        return {
            "adapter_type": "light_adapter",
            "in_channels": shapes["adapter.body.0.in_conv.weight"][1] // _FOLD**2,
            "channels": widths[:-1],
            "num_res_blocks": blocks,
            "downscale_factor": _FOLD,
        }
    folded = shapes["adapter.conv_in.weight"][1]
    large = folded in _FOLDED_XL
    fold = _FOLD_XL if large else _FOLD
    return {
        "adapter_type": "full_adapter_xl" if large else "full_adapter",
        "in_channels": folded // fold**2,
        "channels": [shapes[f"adapter.body.{level}.resnets.0.block1.weight"][0] for level in range(levels)],
        "num_res_blocks": blocks,
        "downscale_factor": fold,
    }


def controlnet_config(shapes: Shapes) -> dict[str, object]:
    """The configuration of the ``ControlNetModel`` with these ``shapes``, by the names of diffusers.

    Raises:
        LookupError: it is of no structure that diffusers has.
    """
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    depths = [_depth(shapes, f"down_blocks.{level}.attentions.0") for level in range(levels)]
    middle = _depth(shapes, "mid_block.attentions.0")
    attended = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    linear = any(name.endswith("attentions.0.proj_in.weight") and len(shapes[name]) == 2 for name in shapes)
    embedded = _count(shapes, r"controlnet_cond_embedding\.blocks\.(\d+)\.") // 2
    hints = [shapes["controlnet_cond_embedding.conv_in.weight"][0]]
    hints += [shapes[f"controlnet_cond_embedding.blocks.{2 * n + 1}.weight"][0] for n in range(embedded)]
    config: dict[str, object] = {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": shapes["controlnet_cond_embedding.conv_in.weight"][1],
        "conditioning_embedding_out_channels": hints,
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        # The middle goes by the last entry, which a level without attention does not read.
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), depths[-1] or middle or 1],
        "attention_head_dim": [max(1, width // _HEAD) for width in widths] if linear else _FIRST_HEADS,
        "use_linear_projection": linear,
    }
    if attended:
        config["cross_attention_dim"] = shapes[attended[0]][1]
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_EMBEDDING,
            "projection_class_embeddings_input_dim": shapes["add_embedding.linear_1.weight"][1],
        }
    return config


def check_fit(what: str, kind: ControlKind, config: Config, family: Family, unet: UNetConfig) -> None:
    """Refuse a control that was made for another kind of model, before a frame finds out.

    Args:
        what: the file or folder, for the sentence.
        config: of the control, complete.
        family, unet: of the model.

    Raises:
        ModelError: it does not fit.
    """
    made = _family_of(kind, config)
    # A T2I-Adapter knows nothing of prompts: one for Stable Diffusion 1 has the structure of one for 2.
    alike = made is family or (kind is ControlKind.ADAPTER and {made, family} == {SD1, SD2})
    if family in _PLAIN and not alike:
        raise ModelError(
            f"{what} is a {kind.value} for {made.title}, and the model is one of {family.title}; "
            "take one that was made for the model"
        )
    has = _adapter_has(config) if kind is ControlKind.ADAPTER else _controlnet_has(config)
    for name, value in _wanted(unet).items():
        if name in has and has[name] != value:
            raise ModelError(
                f"{what} is a {kind.value} for another model: its {name} are {has[name]}, and the model's are {value}; "
                "take one that was made for the model"
            )


# Families that controls are made for. Of all others the structure alone is looked at, as most stem from one of these.
_PLAIN = (SD1, SD2, SDXL)


def _family_of(kind: ControlKind, config: Config) -> Family:
    if kind is ControlKind.ADAPTER:
        return SDXL if config.get("adapter_type") == "full_adapter_xl" else SD1
    if config.get("addition_embed_type") == "text_time":
        return SDXL
    return SD2 if config.get("use_linear_projection") else SD1


def _wanted(unet: UNetConfig) -> dict[str, object]:
    """What must be so of a control for a model with this UNet, as far as the control has it."""
    return {
        "level widths": list(unet["block_out_channels"]),
        "layers a level": _each(unet["layers_per_block"]),
        "latent channels": unet["out_channels"],
        "prompt widths": _each(unet["cross_attention_dim"]),
        "conditions besides": unet["addition_embed_type"],
    }


def _adapter_has(config: Config) -> dict[str, object]:
    widths = _numbers(config.get("channels"))
    if config.get("adapter_type") == "light_adapter":
        widths += widths[-1:]
    elif config.get("adapter_type") == "full_adapter_xl" and widths[-2:-1] == widths[-1:]:
        del widths[-1]  # it is for the middle of the UNet
    return {"level widths": widths}


def _controlnet_has(config: Config) -> dict[str, object]:
    has: dict[str, object] = {
        "level widths": _numbers(config.get("block_out_channels")),
        "layers a level": _each(config.get("layers_per_block", 2)),
        "latent channels": config.get("in_channels", 4),
        "conditions besides": config.get("addition_embed_type"),
    }
    if "cross_attention_dim" in config:  # one without attentions is told no prompt
        has["prompt widths"] = _each(config["cross_attention_dim"])
    return has


def _numbers(value: object) -> list[object]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _each(value: object) -> object:
    """A number that is written once, or for each level, in one way."""
    numbers = _numbers(value)
    return numbers[0] if numbers and all(one == numbers[0] for one in numbers) else numbers or value


def _depth(shapes: Shapes, attention: str) -> int:
    return _count(shapes, re.escape(attention) + r"\.transformer_blocks\.(\d+)\.")


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the one group of ``pattern`` takes among the names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})
