"""Checkpoints of the families people use, in their true layouts and structure, at reduced width with random weights."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import __version__ as diffusers_version
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.tiny_model import make_prompts_matter, write_json, write_tokenizer

State = dict[str, torch.Tensor]

# (block widths, transformer depths, heads, text widths): the structure of the real ones.
_SD = {"widths": (32, 64, 64, 64), "depths": (1, 1, 1, 0), "text": (64,)}
_XL = {"widths": (32, 64, 128), "depths": (0, 2, 3), "text": (64, 128)}
_BASE = {"_class_name": "PNDMScheduler", "timestep_spacing": "leading"}
# Of Segmind's SSD-1B: no attention in the middle, and other depths on the way up than on the way down.
_REDUCED = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 3], [2, 1, 1], 1],
}
# Layers that Stable Diffusion 2 reads of its text encoder, which has one more.
_SD2_TEXT_LAYERS = 23
_TURBO = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}

KINDS: dict[str, dict[str, Any]] = {
    "sd15": {"structure": _SD, "linear": False, "scheduler": _BASE, "pipeline": "StableDiffusionPipeline"},
    "sd21": {"structure": _SD, "linear": True, "scheduler": {**_BASE, "prediction_type": "v_prediction"}},
    "turbo": {"structure": _SD, "linear": True, "scheduler": _TURBO},
    "sdxl": {"structure": _XL, "linear": True, "scheduler": _BASE, "pipeline": "StableDiffusionXLPipeline"},
    "ssd": {
        "structure": _XL,
        "linear": True,
        "scheduler": _BASE,
        "pipeline": "StableDiffusionXLPipeline",
        "unet": _REDUCED,
    },
    "pix2pix": {
        "structure": _SD,
        "linear": False,
        "scheduler": _BASE,
        "pipeline": "StableDiffusionInstructPix2PixPipeline",
        "unet": {"in_channels": 8},
    },
    "inpainting": {
        "structure": _SD,
        "linear": False,
        "scheduler": _BASE,
        "pipeline": "StableDiffusionInpaintPipeline",
        "unet": {"in_channels": 9},
    },
    "inpainting-xl": {
        "structure": _XL,
        "linear": True,
        "scheduler": _BASE,
        "pipeline": "StableDiffusionXLInpaintPipeline",
        "unet": {"in_channels": 9},
    },
}


def write_model(folder: Path, kind: str, seed: int = 0, **structure: Any) -> Path:
    """Write a complete model of ``kind`` to ``folder`` in the diffusers layout.

    Args:
        structure: what is to be other than at reduced width, such as ``text``, the widths of the text encoders.
    """
    torch.manual_seed(seed)
    known = {**KINDS[kind], "structure": {**KINDS[kind]["structure"], **structure}}
    _write_unet(folder / "unet", known["structure"], linear=known["linear"], **known.get("unet", {}))
    autoencoder = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 32, 64, 64),  # pyright: ignore[reportArgumentType]
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        scaling_factor=0.13025 if _is_xl(kind) else 0.18215,
    )
    with torch.no_grad():  # random autoencoders answer every latent with nearly the same grey
        autoencoder.decoder.conv_out.weight.mul_(20)
    autoencoder.save_pretrained(folder / "vae")
    for number, width in enumerate(known["structure"]["text"]):
        layers = _SD2_TEXT_LAYERS if kind in ("sd21", "turbo") else 3
        _write_text_encoder(folder, number, width, layers, open_clip=number == 1 or kind in ("sd21", "turbo"))
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
    write_json(folder / "scheduler" / "scheduler_config.json", {**schedule, **known["scheduler"]})
    index = {
        "_class_name": known.get("pipeline", "StableDiffusionPipeline"),
        "_diffusers_version": diffusers_version,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", known["scheduler"]["_class_name"]],
        "safety_checker": [None, None],
    }
    if _is_xl(kind):
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        index["force_zeros_for_empty_prompt"] = True
    write_json(folder / "model_index.json", index)
    return folder


@cache
def shelved(kind: str, shelf: Path) -> Path:
    """The folder of the model of ``kind`` on a ``shelf`` of models, where it is written once."""
    return write_model(shelf / kind, kind)


def _write_unet(folder: Path, structure: dict, *, linear: bool, **further: Any) -> None:
    widths, depths = structure["widths"], structure["depths"]
    xl = len(structure["text"]) == 2
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": structure["text"][-1] + 6 * 256,
    }
    config: dict[str, Any] = dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        transformer_layers_per_block=tuple(max(1, depth) for depth in depths),
        cross_attention_dim=sum(structure["text"]),
        attention_head_dim=tuple(max(1, width // 64) for width in widths) if linear else 8,
        use_linear_projection=linear,
        **(added if xl else {}),
    )
    config |= further
    unet = UNet2DConditionModel(**config)
    make_prompts_matter(unet)
    unet.save_pretrained(folder)


def _write_text_encoder(folder: Path, number: int, width: int, layers: int, *, open_clip: bool) -> None:
    which = f"_{number + 1}" if number else ""
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        projection_dim=width,
        hidden_act="gelu" if open_clip else "quick_gelu",
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=0 if open_clip else 513,
    )
    kind = CLIPTextModelWithProjection if number else CLIPTextModel
    kind(config).save_pretrained(folder / f"text_encoder{which}")
    write_tokenizer(folder / f"tokenizer{which}", pad="!" if open_clip else "<|endoftext|>")


def _is_xl(kind: str) -> bool:
    return len(KINDS[kind]["structure"]["text"]) == 2


def write_original(folder: Path, path: Path, kind: str, metadata: dict[str, str] | None = None) -> Path:
    """The model in ``folder`` as one file in the original layout, with a folder ``tokenizer`` beside it."""
    write_file(original_state(folder, kind), path, metadata)
    return path


def write_file(state: State, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """A checkpoint of these tensors, with a folder ``tokenizer`` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path, metadata)
    write_tokenizer(path.parent / "tokenizer")
    return path


def original_state(folder: Path, kind: str) -> State:
    """The tensors of the model in ``folder`` by their names in the original layout."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in _original_unet(unet).items()}
    autoencoder = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    state |= {f"first_stage_model.{name}": tensor for name, tensor in _original_autoencoder(autoencoder).items()}
    text = load_file(folder / "text_encoder" / "model.safetensors")
    if _is_xl(kind):
        second = load_file(folder / "text_encoder_2" / "model.safetensors")
        state |= _prefixed("conditioner.embedders.0.transformer.text_model.", text)
        state |= _open_clip("conditioner.embedders.1.model.", second)
    elif kind in ("sd21", "turbo"):
        # The original holds one layer more, which Stable Diffusion 2 does not read.
        number = _SD2_TEXT_LAYERS
        last = {name: tensor for name, tensor in text.items() if f"encoder.layers.{number - 1}." in name}
        more = {
            name.replace(f"layers.{number - 1}.", f"layers.{number}."): torch.randn_like(tensor)
            for name, tensor in last.items()
        }
        state |= _open_clip("cond_stage_model.model.", {**text, **more, "text_projection.weight": torch.randn(64, 64)})
    else:
        state |= _prefixed("cond_stage_model.transformer.text_model.", text)
    return state


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name.removeprefix("text_model."): tensor for name, tensor in state.items()}


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def _original_unet(state: State) -> State:
    per_level = 3  # two layers, and the halving or doubling
    attentive = {match.group() for name in state if (match := re.match(r"up_blocks\.\d+\.attentions", name))}
    renamed: State = {}
    for name, tensor in state.items():
        block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
        if block is None:
            stem = next(stem for stem in _OUTER if name.startswith(stem + "."))
            new = _OUTER[stem] + name.removeprefix(stem)
        else:
            way, level, kind, layer, rest = block.group(1), int(block.group(2)), *block.group(3, 4, 5)
            if kind == "downsamplers":
                new = f"input_blocks.{(level + 1) * per_level}.0.op.{rest.removeprefix('conv.')}"
            elif kind == "upsamplers":
                place = 2 if f"up_blocks.{level}.attentions" in attentive else 1
                new = f"output_blocks.{level * per_level + 2}.{place}.{rest}"
            else:
                number = level * per_level + int(layer) + (1 if way == "down" else 0)
                side = "input" if way == "down" else "output"
                new = f"{side}_blocks.{number}.{0 if kind == 'resnets' else 1}.{rest}"
        if "resnets" in name:
            new = _swapped(new, _RESNET)
        renamed[new] = tensor
    return renamed


def _swapped(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = re.sub(rf"\.{re.escape(old)}\.", f".{new}.", name)
    return name


_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _original_autoencoder(state: State) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        new = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
        new = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
        new = new.replace("conv_shortcut", "nin_shortcut")
        if "attn_1" in new:
            new = _swapped(new, _VAE_ATTENTION)
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        renamed[new] = tensor
    return renamed


_OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def _open_clip(prefix: str, state: State) -> State:
    renamed: State = {}
    for name, tensor in _prefixed("", state).items():
        if "_proj." in name and "self_attn.out" not in name and "text_projection" not in name:
            continue
        new = name.replace("encoder.layers.", "transformer.resblocks.").replace("self_attn.", "attn.")
        new = new.replace("final_layer_norm", "ln_final").replace("embeddings.token_embedding", "token_embedding")
        new = new.replace("embeddings.position_embedding.weight", "positional_embedding")
        if name == "text_projection.weight":
            new, tensor = "text_projection", tensor.T
        renamed[prefix + _swapped(new, _OPEN_CLIP)] = tensor
    plain = _prefixed("", state)
    for layer in {match[1] for name in plain if (match := re.match(r"encoder\.layers\.(\d+)\.", name))}:
        for kind in ("weight", "bias"):
            parts = [plain[f"encoder.layers.{layer}.self_attn.{which}_proj.{kind}"] for which in "qkv"]
            renamed[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    return renamed
