"""LoRA and textual inversion files in the layouts that are about, for any model, with random values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline import Model

RANK = 4
_TARGETS = re.compile(r"attn[12]\.to_(q|k|v|out\.0)$|ff\.net\.2$|proj_in$|conv1$|downsamplers\.0\.conv$")
_TEXT = re.compile(r"self_attn\.(q|v)_proj$")

# (layer name, factors) in the order of the modules; the same for every layout.
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def factors_of(module: Any, seed: int = 0, targets: re.Pattern[str] = _TARGETS) -> Factors:
    """A random (down, up) for each layer of ``module`` that LoRAs usually change."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, layer in module.named_modules():
        if targets.search(name):
            shape = layer.weight.shape
            down = torch.randn(RANK, *shape[1:], generator=generator) / shape[1] ** 0.5
            up = torch.randn(shape[0], RANK, *(1,) * (len(shape) - 2), generator=generator) / RANK
            made[name] = (down, up)
    return made


def write_lora(path: Path, model: Model, layout: str, *, alpha: float = RANK, seed: int = 0) -> Factors:
    """Write a LoRA for the UNet and the first text encoder; gives the UNet's factors.

    ``layout`` is ``peft``, ``diffusers-old``, ``kohya`` or ``kohya-original`` (names of the original checkpoints).
    """
    unet = factors_of(model.unet, seed)
    text = factors_of(model.prompts.encoders[0].module, seed + 1, _TEXT)
    state: dict[str, torch.Tensor] = {}
    for part, factors in (("unet", unet), ("text_encoder", text)):
        for name, (down, up) in factors.items():
            if layout == "peft":
                state[f"{part}.{name}.lora_A.weight"] = down
                state[f"{part}.{name}.lora_B.weight"] = up
            elif layout == "diffusers-old":
                state[f"{part}.{name}.lora.down.weight"] = down
                state[f"{part}.{name}.lora.up.weight"] = up
            else:
                named = _original(name) if layout == "kohya-original" and part == "unet" else name
                prefix = "lora_unet" if part == "unet" else "lora_te_text_model"
                stem = f"{prefix}_{named.removeprefix('text_model.').replace('.', '_')}"
                state[f"{stem}.lora_down.weight"] = down
                state[f"{stem}.lora_up.weight"] = up
                state[f"{stem}.alpha"] = torch.tensor(float(alpha))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return unet


def _original(name: str) -> str:
    """diffusers' name of a UNet layer in the original layout (two layers a level)."""
    inner = {"conv1": "in_layers.2"}
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)\.(.+)", name)
    if name.startswith("mid_block."):
        match_mid = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name)
        assert match_mid is not None
        place = 1 if match_mid[1] == "attentions" else 2 * int(match_mid[2])
        return f"middle_block.{place}.{inner.get(match_mid[3], match_mid[3])}"
    assert match is not None, name
    way, level, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * 3}.0.op"
    number = level * 3 + layer + (1 if way == "down" else 0)
    side = "input" if way == "down" else "output"
    return f"{side}_blocks.{number}.{1 if kind == 'attentions' else 0}.{inner.get(rest, rest)}"
