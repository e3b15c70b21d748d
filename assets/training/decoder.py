"""Trains the decoder on: from the latents that the UNet makes, too, to the picture that the teacher drew.

The encoder stays as it is, so that the latents which the UNet learnt keep their meaning. A regression's latents are
smoother than a picture's own; a decoder that has seen them paints the lines and the grain that the teacher would have.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from assets.training.autoencoder import CROP, LATENT_CHANNELS, LATENT_NOISE, load_autoencoder
from assets.training.latents import CELLS, LatentStore
from assets.training.perceptual import TinyDarknet, feature_distance, statistics_distance
from assets.training.prompts import STYLE_IDS
from assets.training.samples import build_prompt_pool
from assets.training.schedule import stylise
from assets.training.store import (
    Average,
    PictureStore,
    cosine_rate,
    device,
    is_adopted,
    load_parts,
    place,
    save_parts,
    set_rate,
    steps_with_clock,
)
from assets.training.unet import load_unet

log = logging.getLogger(__name__)

BATCH = 12
STEPS = 6000
RATE, TUNING_RATE = 6e-4, 3e-4  # the latter to go on from a finished model's weights
MADE = 1000  # pictures that the UNet makes of each style, each in one of the WAYS
WAYS = ((0.8, 1, 0.5), (1.0, 1, 0.3), (0.8, 4, 0.2))  # strength, steps, share
SHARE_MADE, SHARE_PHOTO = 0.5, 0.2  # of the crops; the other latents are those of teachers' pictures
PERCEPTUAL, STATISTICS = 0.8, 0.3
# What the UNet makes of a still wall differs by so much from frame to frame; the decoder shall paint the same strokes.
FLICKER, STEADY = 0.07, 20.0  # standard deviation of latents, and the weight of the difference in the picture
PLAIN_MADE = 0.3  # how much plain errors count where the UNet made the latent: they ask for a blur there
CHUNK = 16
SAVE_EVERY = 100


@torch.no_grad()
def cache_made(run: Path, seed: int) -> None:
    """Write `run/latents/made.npy` ((N, 16, 32, 32) float16, scaled) and `made.json`, (row, style) of each."""
    folder = run / "latents"
    if (folder / "made.json").is_file():
        return
    store, pool, where = LatentStore(run), build_prompt_pool(run, seed), device()
    unet = load_unet(run)
    place(unet, where)
    random = np.random.default_rng((seed, 13))
    plan: list[tuple[int, int]] = []
    parts: list[np.ndarray] = []
    for style in track(range(len(STYLE_IDS)), description="what the UNet makes"):
        rows = random.choice(store.rows[style], min(MADE, len(store.rows[style])), replace=False)
        ends = np.round(np.cumsum([share for _, _, share in WAYS]) * len(rows)).astype(int)
        for (strength, steps, _), some in zip(WAYS, np.split(rows, ends[:-1]), strict=True):
            for start in range(0, len(some), CHUNK):
                chunk = some[start : start + CHUNK]
                photo = torch.from_numpy(store.arrays[0][chunk]).float().to(where)
                wordings = pool[style, 0]
                states = wordings[torch.from_numpy(random.integers(len(wordings), size=len(chunk)))].float().to(where)
                made = stylise(unet, photo, states, strength, steps, seed=int(random.integers(1 << 30)))
                parts.append(made.half().cpu().numpy())
                plan += [(int(row), style) for row in chunk]
    np.save(folder / "made.npy", np.concatenate(parts))
    (folder / "made.json").write_text(json.dumps(plan), encoding="utf-8")


class Pairs:
    """Random crops: latents and the picture to make of them."""

    def __init__(self, run: Path, seed: int) -> None:
        store = PictureStore(run)
        self.latents, self.seed = LatentStore(run), seed
        self.drawn = [store.pictures(name) for name in STYLE_IDS]
        self.made = np.load(run / "latents" / "made.npy", mmap_mode="r")
        self.plan = json.loads((run / "latents" / "made.json").read_text(encoding="utf-8"))

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(BATCH, 16, 16, 16) scaled latents, (BATCH, 3, CROP, CROP) in 0..1, and (BATCH,) bool: made by the UNet."""
        random = np.random.default_rng((self.seed, 17, step))
        cells = CROP // 8
        latents = np.empty((BATCH, LATENT_CHANNELS, cells, cells), np.float32)
        targets = np.empty((BATCH, CROP, CROP, 3), np.uint8)
        made = np.arange(BATCH) < round(SHARE_MADE * BATCH)
        for slot in range(BATCH):
            if made[slot]:
                index = int(random.integers(len(self.plan)))
                (row, style), latent = self.plan[index], self.made[index]
            else:
                style = 0 if random.random() < SHARE_PHOTO / (1 - SHARE_MADE) else random.integers(1, len(STYLE_IDS))
                rows = self.latents.rows[style]
                row = rows[random.integers(len(rows))]
                latent = self.latents.arrays[style][row]
            top, left = random.integers(0, CELLS - cells + 1, 2)
            latents[slot] = latent[:, top : top + cells, left : left + cells]
            y, x = 8 * top, 8 * left
            targets[slot] = self.drawn[style][row][y : y + CROP, x : x + CROP]
        pictures = torch.from_numpy(targets).permute(0, 3, 1, 2).float().div_(255)
        return torch.from_numpy(latents), pictures, torch.from_numpy(made)


def decoder_loss(decoded: Tensor, target: Tensor, made: Tensor, features: TinyDarknet) -> tuple[Tensor, Tensor]:
    """Loss, and mean squared errors (B,), of `decoded` against `target`, both (B, 3, H, W) in 0..1."""
    error = decoded - target
    squared = error.square().mean((1, 2, 3))
    plain = error.abs().mean((1, 2, 3)) + 4 * squared
    with torch.no_grad():
        theirs = features(target)
    ours = features(decoded)
    weight = torch.where(made, PLAIN_MADE, 1.0).to(plain)
    looks = PERCEPTUAL * feature_distance(ours, theirs) + STATISTICS * statistics_distance(ours, theirs)
    return (weight * plain + looks).mean(), squared


class DecoderTraining:
    """Everything one step needs, and its saved state."""

    def __init__(self, run: Path, data: Path, seed: int, steps: int) -> None:
        self.checkpoint, self.steps, self.step, self.where = run / "decoder.pt", steps, 0, device()
        self.rate = TUNING_RATE if is_adopted(run) else RATE
        self.pairs, model = Pairs(run, seed), load_autoencoder(run)
        self.scale, self.decoder = model.config["scaling_factor"], model.decoder.train().requires_grad_(True)
        self.features = TinyDarknet(data / "weights" / "tiny_darknet.safetensors")
        for module in (self.decoder, self.features):
            place(module, self.where)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), lr=self.rate, betas=(0.9, 0.98), weight_decay=1e-4
        )
        self.average = Average(self.decoder, 0.998)
        self.parts = {"model": self.decoder, "optimizer": self.optimizer, "average": self.average}

    def load(self) -> None:
        """Go on where `save` left off."""
        self.step = load_parts(self.checkpoint, self.parts)

    def save(self) -> None:
        """Write `run/decoder.pt`."""
        save_parts(self.checkpoint, self.parts, self.step)

    def learn(self, step: int) -> np.ndarray:
        """One optimiser step: loss, and mean squared error where the latent was a picture's own, and the UNet's."""
        set_rate(self.optimizer, cosine_rate(step, self.steps, self.rate))
        latents, target, made = (part.to(self.where) for part in self.pairs.batch(step))
        latents = latents / self.scale + LATENT_NOISE * torch.randn_like(latents)
        latents, target = (part.contiguous(memory_format=torch.channels_last) for part in (latents, target))
        with torch.autocast(self.where.type, torch.bfloat16):
            decoded = self.decoder(latents).float() / 2 + 0.5
            loss, squared = decoder_loss(decoded, target, made, self.features)
            flicker = FLICKER / self.scale * torch.randn_like(latents[made])
            again = self.decoder(latents[made] + flicker).float() / 2 + 0.5
            loss = loss + STEADY * (again - decoded[made]).abs().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.decoder, step)
        return np.array([float(x.detach()) for x in (loss, squared[~made].mean(), squared[made].mean())])


def train_decoder(run: Path, data: Path, minutes: float, resume: bool, seed: int, steps: int = STEPS) -> None:
    """Train to `run/decoder.pt`, which `load_autoencoder` then takes; stops after `minutes`, goes on with `resume`."""
    torch.manual_seed(seed)
    cache_made(run, seed)
    training = DecoderTraining(run, data, seed, steps)
    if resume and training.checkpoint.is_file():
        training.load()
    began, first, mean = time.monotonic(), training.step, np.zeros(3)
    for step in steps_with_clock("decoder", training.step, steps, minutes):
        losses = training.learn(step)
        mean = mean * 0.98 + 0.02 * losses if step > first else losses
        training.step = step + 1
        if training.step % SAVE_EVERY == 0:
            rate = (training.step - first) / (time.monotonic() - began)
            told = (training.step, mean[0], *(-10 * np.log10(mean[1:])), rate)
            log.info("decoder step %d  loss %.4f  exact %.2f dB  made %.2f dB  %.2f steps/s", *told)
            training.save()
    training.save()
