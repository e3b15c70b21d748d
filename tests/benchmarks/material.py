"""What is measured with: models of known shape with random weights, and real frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from assets.sample import clip_path
from pipeline.models import EMBEDDED_PATH

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
    for part in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(EMBEDDED_PATH / part, folder / part, dirs_exist_ok=True)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "LCMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def frames(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8: the middle of the sample clip, played again from its start where it ends."""
    import av
    import cv2

    pictures: list[np.ndarray] = []
    with av.open(str(clip_path())) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24")
            height, width = pixels.shape[:2]
            left = (width - height) // 2
            pixels = pixels[:, left : left + height]
            pictures.append(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA))
            if len(pictures) == count:
                break
    return np.stack([pictures[index % len(pictures)] for index in range(count)])


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float 0..1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3))).float() / 255


def _config(part: str) -> dict[str, Any]:
    found = json.loads((EMBEDDED_PATH / part / "config.json").read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if not name.startswith("_")}
