"""Caches the latents of all prepared pictures, tinted ones too, so that an epoch of the UNet costs no encoding."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from rich.progress import track
from torch import Tensor

from assets.training.photos import SIZE
from assets.training.prompts import STYLE_IDS, TINT_IDS
from assets.training.store import PictureStore, device, open_array, place
from assets.training.tints import tint

log = logging.getLogger(__name__)

CHUNK = 16
TINTED_PER_PHOTO = 3  # the photo in one tint, and two of its styled pictures
CELLS = SIZE // 8


@torch.no_grad()
def encode(model: AutoencoderTiny, pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 16, H/8, W/8) float32 latents of about unit variance (scaling factor applied)."""
    where = next(model.parameters()).device
    batch = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(where)
    batch = batch.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
    with torch.autocast(where.type, torch.bfloat16):
        latents = model.encode(batch).latents  # type: ignore[union-attr]
    return latents.float() * model.config["scaling_factor"]


@torch.no_grad()
def decode(model: AutoencoderTiny, latents: Tensor) -> np.ndarray:
    """(B, 16, h, w) scaled latents -> (B, 8h, 8w, 3) uint8."""
    with torch.autocast(latents.device.type, torch.bfloat16):
        made = model.decode(latents / model.config["scaling_factor"]).sample  # type: ignore[union-attr]
    return made.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def measure_scale(model: AutoencoderTiny, store: PictureStore) -> float:
    """1 / standard deviation of raw latents over 64 photos and 16 pictures of each style."""
    model.register_to_config(scaling_factor=1.0)
    parts = []
    for style in store.styles():
        rows = np.flatnonzero(store.done(style)[: store.train_count])[: 64 if style == "photo" else 16]
        parts.append(encode(model, store.pictures(style)[rows]))
    return round(1 / float(torch.cat(parts).std()), 4)


def tint_plan(store: PictureStore, seed: int) -> list[tuple[int, int, int]]:
    """(row, style, tint) of every tinted picture, training rows only; styles that are not there yet are left out."""
    random = np.random.default_rng((seed, 7))
    done = {index: store.done(name) for index, name in enumerate(STYLE_IDS)}
    plan: list[tuple[int, int, int]] = []
    for row in range(store.train_count):
        ready = [index for index in range(1, len(STYLE_IDS)) if done[index][row]]
        if not ready:
            continue
        picks = random.choice(ready, min(TINTED_PER_PHOTO - 1, len(ready)), replace=False)
        plan += [(row, int(style), int(random.integers(1, len(TINT_IDS)))) for style in (0, *picks)]
    return plan


def cache_latents(run: Path, model: AutoencoderTiny, seed: int) -> None:
    """Write `run/latents/<style>.npy` (N, 16, 32, 32) float16, `tinted.npy` and the plan; keeps what is there."""
    store = PictureStore(run)
    folder = run / "latents"
    log.info("caching latents")
    place(model, device())
    scale = folder / "scale.json"
    if not scale.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        scale.write_text(json.dumps(measure_scale(model, store)), encoding="utf-8")
    model.register_to_config(scaling_factor=json.loads(scale.read_text(encoding="utf-8")))
    shape = (model.config["latent_channels"], CELLS, CELLS)
    for style in STYLE_IDS:
        array = open_array(folder / f"{style}.npy", (store.count, *shape), np.float16)
        known = folder / f"{style}.done.npy"
        done = np.load(known) if known.exists() else np.zeros(store.count, bool)
        rows = np.flatnonzero(store.done(style) & ~done)
        for start in track(range(0, len(rows), CHUNK), description=f"latents {style}"):
            some = rows[start : start + CHUNK]
            array[some] = encode(model, store.pictures(style)[some]).cpu().numpy()
            done[some] = True
        np.save(known, done)
    path = folder / "tinted.npy"
    if path.exists():
        return
    plan = tint_plan(store, seed)
    array = np.empty((len(plan), *shape), np.float16)
    pictures = {index: store.pictures(name) for index, name in enumerate(STYLE_IDS)}
    for start in track(range(0, len(plan), CHUNK), description="latents tinted"):
        some = plan[start : start + CHUNK]
        batch = np.stack([tint(TINT_IDS[hue], pictures[style][row]) for row, style, hue in some])
        array[start : start + len(some)] = encode(model, batch).cpu().numpy()
    np.save(path, array)
    (folder / "tinted.json").write_text(json.dumps(plan), encoding="utf-8")


class LatentStore:
    """The cached latents in memory, training rows only."""

    def __init__(self, run: Path) -> None:
        folder = run / "latents"
        if not (folder / "tinted.json").is_file():
            raise ValueError(f"no cached latents in {run}: run `unet` after `autoencoder` and `text`")
        count = PictureStore(run).train_count
        self.arrays = [np.load(folder / f"{style}.npy", mmap_mode="r") for style in STYLE_IDS]
        self.rows = [np.flatnonzero(np.load(folder / f"{style}.done.npy")[:count]) for style in STYLE_IDS]
        self.tinted = np.load(folder / "tinted.npy", mmap_mode="r")
        self.plan: list[tuple[int, int, int]] = [
            tuple(entry) for entry in json.loads((folder / "tinted.json").read_text())
        ]
        self.tinted_photos = [index for index, entry in enumerate(self.plan) if entry[1] == 0]
        self.tinted_styled = [index for index, entry in enumerate(self.plan) if entry[1] != 0]
