"""Writes the trained parts as an ordinary diffusers folder, fp16 safetensors, with the styles as data beside them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from torch import nn

from assets.training.autoencoder import load_autoencoder
from assets.training.photos import SIZE
from assets.training.prompts import STYLE_IDS
from assets.training.schedule import BETA_END, BETA_START, TRAIN_STEPS, add_noise
from assets.training.store import PictureStore
from assets.training.text import encode_texts, load_text
from assets.training.unet import load_unet, new_unet
from assets.training.vocabulary import STYLES, TINTS, Phrases
from pipeline.backends.quantised import measure_bounds
from pipeline.models.bounds import BOUNDS_FILE

log = logging.getLogger(__name__)

BOUNDS_PHOTOS = 12

INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "_diffusers_version": "0.35.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def _phrases(entry: Phrases) -> dict[str, object]:
    return {
        "name": entry.name,
        "prompt": entry.prompt,
        "paraphrases": list(entry.trained[1:8]),
        "held_out": list(entry.held_out),
    }


def _drop(path: Path, key: str) -> None:
    """Leave `key` out of the JSON object at `path`."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop(key, None)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def styles_data() -> dict[str, object]:
    """What the app offers: defaults, and name, prompt and wordings of every style and tint."""
    return {
        "default_strength": 0.8,
        "default_steps": 1,
        "default_guidance_rescale": 1.0,
        "size": SIZE,
        "styles": [{"id": key, **_phrases(entry)} for key, entry in STYLES.items()],
        "tints": [{"id": key, **_phrases(entry)} for key, entry in TINTS.items() if key != "none"],
    }


def new_scheduler() -> LCMScheduler:
    """The schedule that the UNet was trained on, its output being the clean latent."""
    scheduler = LCMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.register_to_config(tells_start=True)
    return scheduler


def bounds(run: Path, autoencoder: AutoencoderTiny, unet: UNet2DConditionModel) -> dict[str, object]:
    """Between which values the parts calculate, over a few pictures of every style, the UNet at every noise.

    Of the encoder the residual branches alone: 256 steps are too few for what its trunk carries. Decoded, its latents
    are 71 dB from the exact ones so; 24 dB with the trunk in eight bits.
    """
    tokenizer, encoder = load_text(run)
    scale = autoencoder.config["scaling_factor"]
    timesteps = torch.linspace(TRAIN_STEPS - 1, 0, BOUNDS_PHOTOS).long()
    latents = {
        style: torch.tensor(np.load(run / "latents" / f"{style}.npy", mmap_mode="r")[:BOUNDS_PHOTOS]).float()
        for style in STYLE_IDS
    }
    photo, noise = latents["photo"], torch.randn(latents["photo"].shape, generator=torch.Generator().manual_seed(0))
    work = []
    for style, drawn in latents.items():
        states = encode_texts(tokenizer, encoder, [STYLES[style].prompt]).repeat(len(photo), 1, 1)
        # A first step starts from the photo; a later one from the style made so far, in a run that began higher.
        for x, began in ((photo, timesteps), (drawn, timesteps.flip(0).maximum(timesteps))):
            work.append((torch.cat([add_noise(x, noise, timesteps), photo], 1), began, states))
    store = PictureStore(run)
    pictures = (store.pictures(style)[:BOUNDS_PHOTOS] for style in STYLE_IDS)
    seen = ((torch.tensor(some).permute(0, 3, 1, 2) / 127.5 - 1,) for some in pictures)
    branches = measure_bounds(autoencoder.encoder, seen)
    parts = {
        "encoder": {name: ends for name, ends in branches.items() if ".conv." in name},
        "decoder": measure_bounds(autoencoder.decoder, ((drawn / scale,) for drawn in latents.values())),
        "unet": measure_bounds(unet, work),
    }
    return {
        part: {name: [round(end, 4) for end in ends] for name, ends in found.items()} for part, found in parts.items()
    }


def export(run: Path, out: Path, untrained: bool = False) -> int:
    """Write the model to `out`, replacing what is there in one move; a model card in `out` is kept.

    `untrained` lets parts that are not there yet be random, for others to integrate against. Returns bytes on disk.
    """
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tokenizer, encoder = load_text(run)
    unet: UNet2DConditionModel = new_unet() if untrained and not (run / "unet.pt").is_file() else load_unet(run)
    autoencoder = load_autoencoder(run)
    if (run / "latents").is_dir():
        found = json.dumps(bounds(run, autoencoder, unet), indent=1)
        (fresh / BOUNDS_FILE).write_text(found + "\n", encoding="utf-8")
    for part in (autoencoder, unet, encoder):
        nn.Module.half(part)
    autoencoder.save_pretrained(fresh / "vae")
    _drop(fresh / "vae" / "config.json", "block_out_channels")  # made anew on loading, with a warning if it is there
    unet.save_pretrained(fresh / "unet")
    encoder.save_pretrained(fresh / "text_encoder")
    tokenizer.save_pretrained(str(fresh / "tokenizer"))
    for name in ("vocab.json", "merges.txt"):  # what older releases of transformers read
        shutil.copy(run / "tokenizer" / name, fresh / "tokenizer" / name)
    new_scheduler().save_pretrained(fresh / "scheduler")
    (fresh / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n", encoding="utf-8")
    (fresh / "styles.json").write_text(json.dumps(styles_data(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        if (out / "README.md").is_file():
            shutil.copy(out / "README.md", fresh / "README.md")
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    log.info("%s: %.1f MB", out.name, size / 1e6)
    return size
