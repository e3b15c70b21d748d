"""Trains the autoencoder: diffusers' AutoencoderTiny with 16 latent channels, on photos and styled pictures.

The encoder starts as a cascade of principal components of 2x2 blocks, carried through the network's ReLUs by a constant
offset, so the decoder has a good code to learn from in the very first minute.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn
from torch.nn import functional as F

from assets.training.perceptual import TinyDarknet, feature_distance
from assets.training.store import (
    Average,
    PictureStore,
    cosine_rate,
    device,
    load_checkpoint,
    load_parts,
    place,
    save_parts,
    set_rate,
    steps_with_clock,
)

log = logging.getLogger(__name__)

LATENT_CHANNELS = 16
LATENT_SPREAD = 0.7  # standard deviation aimed at; the decoder squashes what lies beyond +-3, and tails are long
LATENT_NOISE = 0.03  # standard deviation; the decoder will be given a UNet's guesses, not exact latents
CROP = 128
BATCH = 12
STEPS = 3600
PERCEPTUAL_FROM = 0.5  # share of the steps; before, plain errors teach as much for less
PERCEPTUAL = 0.3  # weight; at 0.08 half of a styled picture's distance to its teacher was the autoencoder's own blur
RATE = 1.2e-3


def new_autoencoder() -> AutoencoderTiny:
    """Untrained. No residual block works at full resolution: those cost half of TAESD's time."""
    model = AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(48, 48, 48, 48),
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 2, 1, 0),
        scaling_factor=1.0,
    )
    for block in model.modules():
        if isinstance(block, AutoencoderTinyBlock):
            last = [m for m in block.conv.modules() if isinstance(m, nn.Conv2d)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return model


@torch.no_grad()
def start_from_components(model: AutoencoderTiny, pictures: Tensor) -> None:
    """Set the encoder to principal components of `pictures` ((B, 3, H, W) in 0..1), one halving at a time.

    The last channel carries a constant 1, from which each halving (a convolution without bias) takes the offset that
    keeps its outputs above zero. Taps 1 and 2 of a 3x3 kernel of stride 2 are the 2x2 block.
    """
    convs = [m for m in model.encoder.layers if isinstance(m, nn.Conv2d)]
    first, last = convs[0], convs[-1]
    width = first.out_channels
    nn.init.zeros_(first.weight)
    nn.init.zeros_(first.bias)  # type: ignore[arg-type]
    for channel in range(3):
        first.weight[channel, channel, 1, 1] = 1
    first.bias[width - 1] = 1  # type: ignore[index]
    features = F.conv2d(pictures, first.weight, first.bias, padding=1)
    used = 3
    for conv in convs[1:-1]:
        blocks = F.unfold(features[:, :used], 2, stride=2)  # (B, used * 4, L), channel-major
        blocks = blocks.permute(0, 2, 1).reshape(-1, used * 4)
        mean, (_, vectors) = blocks.mean(0), torch.linalg.eigh(torch.cov(blocks.T))
        keep = min(width - 1, used * 4)
        basis = vectors.flip(1)[:, :keep].T  # (keep, used * 4)
        deviation = ((blocks - mean) @ basis.T).std(0)
        nn.init.normal_(conv.weight, std=0.02)
        conv.weight[:keep] = 0
        conv.weight[:keep, :used, 1:, 1:] = basis.reshape(keep, used, 2, 2)
        conv.weight[:keep, width - 1, 1, 1] = 5 * deviation + 0.1 - basis @ mean
        conv.weight[width - 1] = 0
        conv.weight[width - 1, width - 1, 1, 1] = 1
        features = F.conv2d(features, conv.weight, stride=2, padding=1).relu()
        used = keep
    flat = features[:, :used].permute(0, 2, 3, 1).reshape(-1, used)
    mean, (values, vectors) = flat.mean(0), torch.linalg.eigh(torch.cov(flat.T))
    basis = vectors.flip(1)[:, : last.out_channels].T * LATENT_SPREAD
    basis = basis / values.flip(0)[: last.out_channels, None].sqrt()
    nn.init.zeros_(last.weight)
    last.weight[:, :used, 1, 1] = basis
    last.bias.copy_(-basis @ mean)  # type: ignore[union-attr]


class Crops:
    """Random crops of all pictures that are ready; a third of them photos."""

    def __init__(self, store: PictureStore, seed: int) -> None:
        self.store = store
        self.seed = seed
        self.refresh()

    def refresh(self) -> None:
        """See what `prepare` has added meanwhile."""
        self.pools = {}
        for style in self.store.styles():
            rows = np.flatnonzero(self.store.done(style)[: self.store.train_count])
            if len(rows):
                self.pools[style] = (self.store.pictures(style), rows)

    def batch(self, step: int) -> Tensor:
        """(BATCH, 3, CROP, CROP) in 0..1; the same for the same seed, step and pictures."""
        random = np.random.default_rng((self.seed, step))
        styled = [name for name in self.pools if name != "photo"]
        crops = np.empty((BATCH, CROP, CROP, 3), np.uint8)
        for slot in range(BATCH):
            name = styled[random.integers(len(styled))] if styled and random.random() > 0.34 else "photo"
            pictures, rows = self.pools[name]
            top, left = random.integers(0, pictures.shape[1] - CROP + 1, 2)
            crop = pictures[rows[random.integers(len(rows))], top : top + CROP, left : left + CROP]
            crops[slot] = crop[:, ::-1] if random.random() < 0.5 else crop
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)


def autoencoder_loss(
    model: AutoencoderTiny, features: TinyDarknet, target: Tensor, noise: float, perceptual: bool
) -> tuple[Tensor, Tensor]:
    """Loss and plain mean squared error of reconstructing `target` ((B, 3, H, W) in 0..1)."""
    latents = model.encoder(target * 2 - 1)
    flat = latents.float().transpose(0, 1).flatten(1)
    spread = (flat.std(1) - LATENT_SPREAD).square().mean() + flat.mean(1).square().mean()
    decoded = model.decoder(latents + noise * torch.randn_like(latents)) / 2 + 0.5
    error = decoded.float() - target
    squared = error.square().mean()
    loss = error.abs().mean() + 4 * squared + 0.02 * spread
    if perceptual:
        half = target.shape[0] // 2  # on half the batch, as it costs much
        with torch.no_grad():
            wanted = features(target[:half])
        loss = loss + PERCEPTUAL * feature_distance(features(decoded[:half]), wanted).mean()
    return loss, squared


def train_autoencoder(run: Path, data: Path, minutes: float, resume: bool, seed: int, steps: int = STEPS) -> None:
    """Train to `run/autoencoder.pt`; stops after `minutes` and goes on from there with `resume`."""
    torch.manual_seed(seed)
    where = device()
    store = PictureStore(run)
    crops = Crops(store, seed)
    model = new_autoencoder()
    checkpoint = run / "autoencoder.pt"
    going_on = resume and checkpoint.is_file()
    if not going_on:
        start_from_components(model, torch.cat([crops.batch(steps + index) for index in range(40)]))
    place(model, where)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    average = Average(model, 0.998)
    parts = {"model": model, "optimizer": optimizer, "average": average}
    start = load_parts(checkpoint, parts) if going_on else 0
    features = TinyDarknet(data / "weights" / "tiny_darknet.safetensors")
    place(features, where)

    step, began, running = start - 1, time.monotonic(), 0.0
    for step in steps_with_clock("autoencoder", start, steps, minutes):
        set_rate(optimizer, cosine_rate(step, steps, RATE, warm=50))
        target = crops.batch(step).to(where, memory_format=torch.channels_last)
        with torch.autocast(where.type, torch.bfloat16):
            loss, squared = autoencoder_loss(model, features, target, LATENT_NOISE, step >= PERCEPTUAL_FROM * steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        running = running * 0.95 + 0.05 * float(squared.detach()) if running else float(squared.detach())
        if step % 250 == 249:
            rate = (step + 1 - start) / (time.monotonic() - began)
            log.info(
                "autoencoder step %d  PSNR %.2f dB  loss %.4f  %.2f steps/s",
                step + 1,
                -10 * np.log10(running),
                float(loss.detach()),
                rate,
            )
            save_parts(checkpoint, parts, step + 1)
            crops.refresh()
    save_parts(checkpoint, parts, step + 1)


def load_autoencoder(run: Path) -> AutoencoderTiny:
    """The averaged weights of `run`, in evaluation mode; its decoder as trained on, if it was."""
    model = new_autoencoder()
    model.load_state_dict(load_checkpoint(run / "autoencoder.pt")["average"])
    if (run / "decoder.pt").is_file():
        model.decoder.load_state_dict(load_checkpoint(run / "decoder.pt")["average"])
    scale = run / "latents" / "scale.json"
    if scale.is_file():
        model.register_to_config(scaling_factor=json.loads(scale.read_text(encoding="utf-8")))
    return model.eval().requires_grad_(False)
