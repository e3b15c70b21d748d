"""IP-Adapters with random weights at reduced width, in the layout of h94's repository, and models to use them on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from pipeline.conditioning.attention import cross_attentions
from tests.checkpoints import State, write_model
from tests.tiny_model import make_pictures_matter

# Widths of what an encoder says of parts and of the whole: the small one (ViT-H) and the large one (bigG).
ENCODERS = {"models": (64, 48), "sdxl_models": (96, 80)}
SIDE = 28
KINDS = ("plain", "plus", "full")


def write_streamable(folder: Path, kind: str) -> Path:
    """A model of ``kind`` with a tiny autoencoder, whose pictures have no more contrast than real ones."""
    write_model(folder, kind)
    for file in (folder / "vae").iterdir():
        file.unlink()
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    make_pictures_matter(autoencoder)
    autoencoder.save_pretrained(folder / "vae")
    return folder


def write_encoder(folder: Path, width: int, pooled_width: int, dtype: torch.dtype = torch.float32) -> Path:
    """An image encoder that sees a picture in five parts."""
    torch.manual_seed(width)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=pooled_width,
        image_size=SIDE,
        patch_size=14,
        hidden_act="gelu",
        initializer_range=0.3,
    )
    encoder = CLIPVisionModelWithProjection(config)
    nn.Module.to(encoder, dtype)
    encoder.save_pretrained(folder)
    return folder


def adapter_state(unet: nn.Module, kind: str, encoder: tuple[int, int], seed: int = 0) -> State:
    """The tensors of an IP-Adapter of one of ``KINDS``, by the names that h94's files have."""
    generator = torch.Generator().manual_seed(seed)
    attentions = cross_attentions(unet)
    width = next(attentions[0].to_k.parameters()).shape[1]
    parts, pooled = encoder

    def layer(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    projection: State
    if kind == "plain":
        projection = {"proj.weight": layer(4 * width, pooled), "proj.bias": layer(4 * width)}
        projection |= {"norm.weight": 1 + layer(width), "norm.bias": layer(width)}
    elif kind == "full":
        projection = {"proj.0.weight": layer(parts, parts), "proj.0.bias": layer(parts)}
        projection |= {"proj.2.weight": layer(width, parts), "proj.2.bias": layer(width)}
        projection |= {"proj.3.weight": 1 + layer(width), "proj.3.bias": layer(width)}
    else:
        inner, attended = 40, 128
        projection = {
            "latents": layer(1, 6, inner),
            "proj_in.weight": layer(inner, parts),
            "proj_in.bias": layer(inner),
        }
        projection |= {"proj_out.weight": layer(width, inner), "proj_out.bias": layer(width)}
        projection |= {"norm_out.weight": 1 + layer(width), "norm_out.bias": layer(width)}
        for block in range(4):
            projection |= {
                f"layers.{block}.{name}": tensor
                for name, tensor in {
                    "0.norm1.weight": 1 + layer(inner),
                    "0.norm1.bias": layer(inner),
                    "0.norm2.weight": 1 + layer(inner),
                    "0.norm2.bias": layer(inner),
                    "0.to_q.weight": layer(attended, inner),
                    "0.to_kv.weight": layer(2 * attended, inner),
                    "0.to_out.weight": layer(inner, attended),
                    "1.0.weight": 1 + layer(inner),
                    "1.0.bias": layer(inner),
                    "1.1.weight": layer(4 * inner, inner),
                    "1.3.weight": layer(inner, 4 * inner),
                }.items()
            }
    state = {f"image_proj.{name}": tensor for name, tensor in projection.items()}
    for number, attention in enumerate(attentions):
        inner_width = next(attention.to_k.parameters()).shape[0]
        for which, scale in (("k", 0.5), ("v", 2.0)):
            state[f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight"] = scale * layer(inner_width, width)
    return state


FILES = {
    "sd15": {
        "plain": "models/ip-adapter_sd15.safetensors",
        "plus": "models/ip-adapter-plus_sd15.safetensors",
        "full": "models/ip-adapter-full-face_sd15.safetensors",
    },
    "sdxl": {
        "plain": "sdxl_models/ip-adapter_sdxl.safetensors",
        "plain, small": "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
        "plus": "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
    },
}


def write_repository(root: Path, models: Mapping[str, nn.Module]) -> Path:
    """h94's repository, with IP-Adapters for these UNets by their kind (``sd15``, ``sdxl``)."""
    for folder, widths in ENCODERS.items():
        write_encoder(root / folder / "image_encoder", *widths)
    for family, unet in models.items():
        for kind, name in FILES[family].items():
            encoder = ENCODERS["sdxl_models" if name.endswith("_sdxl.safetensors") else "models"]
            save_file(adapter_state(unet, kind.partition(",")[0], encoder), root / name)
    return root


def write_picture(path: Path, seed: int, size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> Path:
    """A picture of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path
