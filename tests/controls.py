"""T2I-Adapters and ControlNets for any model, with random weights, in the layouts that are about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers.models.adapter import T2IAdapter
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file

State = dict[str, torch.Tensor]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def new_controlnet(unet: UNet2DConditionModel, seed: int = 1, **settings: Any) -> ControlNetModel:
    """One that fits ``unet``; what training begins with at zero is random, so that the hint and the rows matter."""
    torch.manual_seed(seed)
    settings = {"conditioning_embedding_out_channels": (8, 8, 16, 16), **settings}
    controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False, **settings)
    with torch.no_grad():
        for name, weight in controlnet.named_parameters():
            if "controlnet_down_blocks" in name or "controlnet_mid_block" in name:
                torch.nn.init.normal_(weight, std=0.15)
            elif name.startswith("controlnet_cond_embedding.conv_out"):
                torch.nn.init.normal_(weight, std=0.5)
            elif name.endswith(("attn2.to_q.weight", "attn2.to_k.weight", "attn2.to_v.weight")):
                weight.mul_(6)
    return controlnet.eval()


def new_adapter(unet: UNet2DConditionModel, kind: str = "full_adapter", seed: int = 1, channels: int = 3) -> T2IAdapter:
    """One that fits ``unet``, of ``full_adapter``, ``full_adapter_xl`` or ``light_adapter``; its features are large."""
    torch.manual_seed(seed)
    widths: list[int] = [*unet.config["block_out_channels"]]
    if kind == "full_adapter_xl":
        widths += widths[-1:]
    if kind == "light_adapter":
        widths = widths[:-1]
    fold = 16 if kind == "full_adapter_xl" else 8
    adapter = T2IAdapter(
        in_channels=channels, channels=widths, num_res_blocks=2, downscale_factor=fold, adapter_type=kind
    )
    with torch.no_grad():
        for name, weight in adapter.named_parameters():
            if name.endswith("weight") and weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    return adapter.eval()


def write_control(folder: Path, control: ControlNetModel | T2IAdapter) -> Path:
    """In the layout of diffusers."""
    control.save_pretrained(folder)
    return folder


def as_single_file(folder: Path, path: Path) -> Path:
    """The weights of the control in ``folder`` alone, by diffusers' names."""
    return _saved(load_file(folder / WEIGHTS), path)


def as_original_controlnet(folder: Path, path: Path, layers: int, prefix: str = "control_model.") -> Path:
    """The ControlNet in ``folder`` in its authors' layout.

    Args:
        layers: of each level of the UNet.
        prefix: ``control_model.`` in the authors' own files, nothing in others.
    """
    state = load_file(folder / WEIGHTS)
    return _saved({prefix + _original(name, layers): tensor for name, tensor in state.items()}, path)


_PLAIN = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _original(name: str, layers: int) -> str:
    if match := re.match(r"controlnet_down_blocks\.(\d+)\.(.+)", name):
        return f"zero_convs.{match[1]}.0.{match[2]}"
    if match := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.+)", name):
        return f"input_hint_block.{2 * int(match[1]) + 2}.{match[2]}"
    if match := re.match(r"controlnet_cond_embedding\.conv_out\.(.+)", name):
        return f"input_hint_block.14.{match[1]}"  # six layers stand between, and an activation behind each
    if match := re.match(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.+)", name):
        level, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
        found = f"input_blocks.{level * (layers + 1) + layer + 1}.{0 if kind == 'resnets' else 1}.{rest}"
    else:
        stem = next(stem for stem in _PLAIN if name.startswith(stem + "."))
        found = _PLAIN[stem] + name.removeprefix(stem)
    if "resnets" in name:
        for ours, theirs in _RESNET.items():
            found = found.replace(f".{ours}.", f".{theirs}.")
    return found


def as_original_adapter(folder: Path, path: Path, *, light: bool = False, blocks: int = 2) -> Path:
    """The T2I-Adapter in ``folder`` in its authors' layout; ``blocks`` are those of each level."""
    state: State = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        plain = name.removeprefix("adapter.")
        match = re.match(r"body\.(\d+)\.(?:resnets\.(\d+)\.)?(.+)", plain)
        if match is None:
            state[plain] = tensor
        elif light:
            state[plain.replace(".resnets.", ".body.")] = tensor
        else:
            state[f"body.{int(match[1]) * blocks + int(match[2] or 0)}.{match[3]}"] = tensor
    return _saved(state, path)


def _saved(state: State, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path
