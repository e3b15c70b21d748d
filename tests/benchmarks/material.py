"""What is measured with: models of known shape with random weights, and real frames."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from assets.sample import clip_path
from pipeline.device import choose_device
from pipeline.models import EMBEDDED_PATH
from tests.tiny_model import write_index
from tests.video import frames_of, middle_square

PROMPT = "a watercolour painting"


def write_plain_model(folder: Path) -> Path:
    """The embedded model's shape, but of the kind that every pipeline can feed: four latent channels, plain input.

    The text parts and the noise schedule are the embedded model's own; the weights are random, which costs the same.
    """
    torch.manual_seed(0)
    unet = {**_config("unet"), "in_channels": 4, "out_channels": 4}
    vae = {**_config("vae"), "latent_channels": 4}
    for name, kind, config in (("unet", UNet2DConditionModel, unet), ("vae", AutoencoderTiny, vae)):
        made: Any = kind.from_config(config)
        made.save_pretrained(folder / name)
    return _complete(folder, ("text_encoder", "tokenizer", "scheduler"))


def write_sd_turbo(folder: Path) -> Path:
    """Stable Diffusion Turbo's UNet and TAESD as they are built, with random float16 weights, which cost the same."""
    shape = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
    return _write_sd(folder, shape)


def write_sd15(folder: Path) -> Path:
    """The same of Stable Diffusion 1.5."""
    return _write_sd(folder, {"cross_attention_dim": 768, "attention_head_dim": 8})


def write_narrow_sd15(folder: Path) -> Path:
    """The same at a fifth of the width, 38 million parameters: the network that SIGE's authors' code was run on."""
    shape = {"cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (64, 128, 256, 256)}
    return _write_sd(folder, shape)


def random_unet(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """A UNet whose weights are drawn as torch draws them, but on ``device``: on a GPU, billions in a moment."""
    with torch.device("meta"):
        made: Any = UNet2DConditionModel(**config)
    unet = made.to(dtype).to_empty(device=device)
    for part in unet.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return unet


def _write_sd(folder: Path, shape: dict[str, Any]) -> Path:
    """The text encoder has its width only: it runs once a prompt."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = json.loads((EMBEDDED_PATH / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    taken = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    side = shape["cross_attention_dim"]
    width = {"hidden_size": side, "intermediate_size": side, "num_attention_heads": side // 64, "num_hidden_layers": 1}
    known: dict[str, Any] = {**{name: text[name] for name in taken if name in text}, **width}
    parts = {
        "unet": random_unet({"sample_size": 64, **shape}, choose_device("auto"), torch.float16),
        "vae": AutoencoderTiny(),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**known)),
    }
    for name, part in parts.items():
        made: Any = part.half()
        made.save_pretrained(folder / name)
    return _complete(folder, ("tokenizer", "scheduler"))


def model_folder(spec: str, folder: Path) -> Path:
    """A model to measure with, written to ``folder`` where it is one of these; else ``spec`` is a path."""
    writers = {"plain": write_plain_model, "sd-turbo": write_sd_turbo, "sd15": write_sd15}
    writers["narrow-sd15"] = write_narrow_sd15
    return writers[spec](folder) if spec in writers else Path(spec)


def frames(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: the middle of the sample clip, played again from its start where it ends."""
    import cv2

    pictures = [
        cv2.resize(middle_square(pixels), (size, size), interpolation=cv2.INTER_AREA)
        for pixels in islice(frames_of(clip_path()), count)
    ]
    return np.stack([pictures[index % len(pictures)] for index in range(count)])


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float 0..1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3))).float() / 255


def _config(part: str) -> dict[str, Any]:
    found = json.loads((EMBEDDED_PATH / part / "config.json").read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _complete(folder: Path, parts: tuple[str, ...]) -> Path:
    """Add the embedded model's own ``parts``, and the index."""
    for part in parts:
        shutil.copytree(EMBEDDED_PATH / part, folder / part, dirs_exist_ok=True)
    write_index(folder)
    return folder
