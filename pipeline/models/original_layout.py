"""Names in the original layout of Stable Diffusion's weights (CompVis, Stability AI, OpenCLIP), as diffusers has them.

The original UNet numbers its blocks in the order in which they run, ``input_blocks.0`` to ``input_blocks.11``, the one
for the input and those that halve the picture included; diffusers counts by level, and by layer within a level. The
same names, with underscores for the dots, are found in LoRA files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

_Table = tuple[tuple[str, str], ...]

_UNET: _Table = (
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("middle_block.0", "mid_block.resnets.0"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("middle_block.2", "mid_block.resnets.1"),
)
_UNET_RESNET: _Table = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
_AUTOENCODER: _Table = (
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.attn_1", "mid_block.attentions.0"),
    ("mid.block_2", "mid_block.resnets.1"),
    ("norm_out", "conv_norm_out"),
)
_AUTOENCODER_ATTENTION: _Table = (
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
)
# Before diffusers 0.18, its own autoencoders called the same layers so.
_AUTOENCODER_EARLY: _Table = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
_OPEN_CLIP: _Table = (
    ("token_embedding", "embeddings.token_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final", "final_layer_norm"),
    ("transformer.resblocks", "encoder.layers"),
)
_OPEN_CLIP_LAYER: _Table = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
)


def unet_name(name: str, layers_per_block: int, dot: str = ".") -> str:
    """diffusers' name of a weight or layer of a UNet; a name that is not of the original layout stays as it is.

    Args:
        name: in the original layout, without the prefix of the whole UNet.
        layers_per_block: layers of each level on the way down.
        dot: what stands between the parts of a name, in ``name`` and in the result.
    """
    found = _renamed(name, _UNET, dot)
    if found is None:
        between = re.escape(dot)
        match = re.match(rf"(input|output)_blocks{between}(\d+){between}(\d+){between}(.+)", name)
        if match is None:
            return name
        down, rest = match[1] == "input", match[4]
        level, layer = divmod(int(match[2]) - (1 if down else 0), layers_per_block + 1)
        first, _, after = rest.partition(dot)
        side = "down" if down else "up"
        if first in ("op", "conv"):
            parts = (f"{side}_blocks", str(level), f"{side}samplers", "0", "conv", after)
        else:
            parts = (f"{side}_blocks", str(level), "attentions" if int(match[3]) else "resnets", str(layer), rest)
        found = dot.join(part for part in parts if part)
    return _within(found, rf"resnets{re.escape(dot)}\d+{re.escape(dot)}", _UNET_RESNET, dot)


def autoencoder_state(state: Mapping[str, torch.Tensor], levels: int) -> dict[str, torch.Tensor]:
    """The weights of an ``AutoencoderKL`` with ``levels`` levels, by the names and in the shapes of diffusers.

    Args:
        state: in the original layout, without the prefix of the whole autoencoder.
    """
    converted = {}
    for name, tensor in state.items():
        half, dot, rest = name.partition(".")
        new = half + dot + _autoencoder_name(rest, levels) if half in ("encoder", "decoder") else name
        # The attention's layers are written as convolutions of one pixel.
        linear = ".attentions." in new and tensor.ndim == 4
        converted[new] = tensor.flatten(1) if linear else tensor
    return converted


def _autoencoder_name(name: str, levels: int) -> str:
    if match := re.match(r"(down|up)\.(\d+)\.(block|downsample|upsample)\.(.+)", name):
        side, level, kind, rest = match[1], int(match[2]), match[3], match[4]
        # On the way up, the original counts the levels from the largest picture to the smallest.
        place = level if side == "down" else levels - 1 - level
        name = f"{side}_blocks.{place}." + (f"resnets.{rest}" if kind == "block" else f"{side}samplers.0.{rest}")
    else:
        name = _renamed(name, _AUTOENCODER, ".") or name
    name = _within(name, r"resnets\.\d+\.", (("nin_shortcut", "conv_shortcut"),), ".")
    return _within(name, r"attentions\.\d+\.", _AUTOENCODER_ATTENTION, ".")


def early_autoencoder_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of an autoencoder that diffusers wrote, by the names that it gives its attention's layers now."""
    return {_within(name, r"attentions\.\d+\.", _AUTOENCODER_EARLY, "."): tensor for name, tensor in state.items()}


def open_clip_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of an OpenCLIP text encoder, by the names and in the shapes of transformers' ``CLIPTextModel``.

    Args:
        state: in OpenCLIP's layout, without the prefix of the whole encoder.
    """
    converted = {}
    for name, tensor in state.items():
        new = _renamed(name, _OPEN_CLIP, ".") or name
        new = _within(new, r"encoder\.layers\.\d+\.", _OPEN_CLIP_LAYER, ".")
        if match := re.match(r"(encoder\.layers\.\d+)\.attn\.in_proj_(weight|bias)$", new):
            # One matrix for queries, keys and values.
            for which, third in zip("qkv", tensor.chunk(3), strict=True):
                converted[f"{match[1]}.self_attn.{which}_proj.{match[2]}"] = third
        elif new == "text_projection":
            converted["text_projection.weight"] = tensor.T.contiguous()
        else:
            converted[new] = tensor
    return converted


def _renamed(name: str, table: _Table, dot: str) -> str | None:
    """``name`` with its beginning as ``table`` has it; None where no entry is its beginning."""
    for old, new in table:
        start = old.replace(".", dot)
        if name == start or name.startswith(start + dot):
            return new.replace(".", dot) + name[len(start) :]
    return None


def _within(name: str, head: str, table: _Table, dot: str) -> str:
    """``name`` with what follows ``head`` (a pattern) renamed by ``table``."""
    match = re.search(head, name)
    if match is None:
        return name
    rest = name[match.end() :]
    return name[: match.end()] + (_renamed(rest, table, dot) or rest)
