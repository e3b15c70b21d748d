"""Trains the UNet: from noisy latent, photo latent and prompt to the styled latent (InstructPix2Pix, arXiv 2211.09800).

It predicts the styled latent itself ("sample" prediction), so nothing is spent on reproducing noise. The prompt acts at
every residual block, through the time embedding (conditional instance norm, arXiv 1610.07629), and by cross-attention.
The timestep that it is told is the one at which the run began, at every step of the run: it says how strong the style
shall be, which a later step could not know else. How much noise is left can be seen (arXiv 2502.13129).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from assets.training.adversary import Adversary
from assets.training.autoencoder import LATENT_CHANNELS, load_autoencoder
from assets.training.latents import CELLS
from assets.training.optimizer import MatrixOptimizer
from assets.training.perceptual import TinyDarknet, feature_distance, gram_distance, statistics_distance
from assets.training.samples import ROLLED, Batch, Sampler
from assets.training.schedule import add_noise
from assets.training.sheets import draw_sheet
from assets.training.store import (
    Average,
    cosine_rate,
    device,
    is_adopted,
    load_checkpoint,
    load_parts,
    place,
    save_parts,
    steps_with_clock,
)
from assets.training.text import WIDTH

log = logging.getLogger(__name__)

BATCH = 16
STEPS = 9000
SMALL_UNTIL = 0.97  # share of the steps on 24x24 pieces of latents; then whole ones
PIXELS_FROM = 0.35  # share of the steps after which the decoded picture counts too
ADVERSARY_FROM = 0.55  # share of the steps after which the adversarial loss counts too
ADVERSARY_SHARE, ADVERSARY_WARM = 0.1, 300  # its gradient's size over that of the other losses, reached after this long
PIXEL_LATER, PIXEL_PAIRS, PIXEL_CELLS = 2, 3, 14  # decoded per step: later steps, pairs, of so many latent cells
PERCEPTUAL, STATISTICS = 1.0, 0.3  # weights
# A pair comes out this far apart (mean absolute difference, 0..1) by the autoencoder alone; more is held against it.
STEADY_FROM, STEADY = 0.005, 2.0
RATE, TUNING_RATE = 1.0e-3, 3e-4  # the latter to go on from a finished model's weights
SAVE_EVERY = 100
SHEET_EVERY = 700


def new_unet() -> UNet2DConditionModel:
    """Untrained. (`attention_head_dim` is the number of heads in this class.)"""
    return UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(96, 128, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def latent_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + L2 of latents."""
    error = made - wanted
    return error.abs().mean() + error.square().mean()


def pixel_loss(
    model: AutoencoderTiny, features: TinyDarknet, made: Tensor, wanted: Tensor, corner: tuple[int, int]
) -> Tensor:
    """L1, perceptual, statistics, Gram and steadiness terms of decoded pieces of the first samples and of pairs."""
    top, left = corner
    cut = (slice(None), slice(None), slice(top, top + PIXEL_CELLS), slice(left, left + PIXEL_CELLS))
    scale = model.config["scaling_factor"]
    made, wanted = (torch.cat([x[:PIXEL_LATER], x[-2 * PIXEL_PAIRS :]])[cut] / scale for x in (made, wanted))
    with torch.no_grad():
        target = (model.decoder(wanted).float() / 2 + 0.5).clamp(0, 1)
        theirs = features(target)
    picture = model.decoder(made).float() / 2 + 0.5
    ours = features(picture)
    looks = PERCEPTUAL * feature_distance(ours, theirs) + STATISTICS * statistics_distance(ours, theirs)
    plain = (picture - target).abs().mean() + STEADY * flicker(picture[-2 * PIXEL_PAIRS :])
    return plain + (looks + 0.02 * gram_distance(ours, theirs)).mean()


def flicker(pairs: Tensor) -> Tensor:
    """How far rows 0 and 1, 2 and 3, ... of (B, 3, H, W) differ beyond STEADY_FROM; the mean of the pairs."""
    return ((pairs[0::2] - pairs[1::2]).abs().mean((1, 2, 3)) - STEADY_FROM).clamp_min(0).mean()


class UNetTraining:
    """Everything one step needs, and its saved state."""

    def __init__(self, run: Path, data: Path, seed: int, steps: int) -> None:
        self.steps, self.where = steps, device()
        self.rate, self.pixels_from, self.adversary_from = RATE, PIXELS_FROM * steps, ADVERSARY_FROM * steps
        if is_adopted(run):
            self.rate, self.pixels_from, self.adversary_from = TUNING_RATE, 0, 0
        self.unet = new_unet()
        self.unet.set_attn_processor(AttnProcessor())  # the fused one's backward pass is slow on a CPU
        place(self.unet, self.where)
        self.optimizer = MatrixOptimizer(self.unet, self.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.average = Average(self.unet, 0.998)
        self.sampler = Sampler(run, seed, self.where)
        self.autoencoder = load_autoencoder(run)
        weights = data / "weights" / "tiny_darknet.safetensors"
        self.features = TinyDarknet(weights)
        for judge in (self.autoencoder, self.features):
            place(judge, self.where)
        self.adversary = Adversary(self.where)
        self.checkpoint, self.step = run / "unet.pt", 0
        self.parts = {
            "model": self.unet,
            "optimizer": self.optimizer,
            "average": self.average,
            "critic": self.adversary.critic,
            "critic_optimizer": self.adversary.optimizer,
        }

    def load(self) -> None:
        """Go on where `save` left off."""
        self.step = load_parts(self.checkpoint, self.parts)

    def save(self) -> None:
        """Write `run/unet.pt`."""
        save_parts(self.checkpoint, self.parts, self.step)

    def learn(self, step: int) -> tuple[float, float, float]:
        """One optimiser step; returns latent, pixel and the critic's loss (0 where there is none yet)."""
        self.optimizer.set_rate(cosine_rate(step, self.steps, self.rate))
        small = step < SMALL_UNTIL * self.steps
        batch = self.sampler.batch(step, BATCH, 24 if small else CELLS)
        if step >= self.pixels_from:
            batch = self._roll(batch)
        made = self._predict(batch.noisy, batch.photo, batch.began, batch.states)
        # The gradient at the UNet's output is gathered first, so that the terms can be weighed against one another.
        leaf = made.detach().requires_grad_()
        latents, pixels = self._distance(step, leaf, batch)
        (gradient,) = torch.autograd.grad(latents + 2 * pixels, leaf)
        doubt = 0.0
        started = step - self.adversary_from
        if started >= 0:
            seen = (batch.wanted, batch.photo, batch.amount, batch.wishes)
            doubt = self.adversary.learn(made, *seen)
            (push,) = torch.autograd.grad(self.adversary.loss(leaf, *seen), leaf)
            share = ADVERSARY_SHARE * min(1.0, started / ADVERSARY_WARM)
            gradient = gradient + push * (share * gradient.norm() / push.norm().clamp_min(1e-12))
        self.optimizer.zero_grad()
        made.backward(gradient)
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.unet, step)
        return float(latents.detach()), float(pixels.detach()), doubt

    def _predict(self, noisy: Tensor, photo: Tensor, began: Tensor, states: Tensor) -> Tensor:
        both = torch.cat([noisy, photo], 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.where.type, torch.bfloat16):
            return self.unet(both, began, states).sample.float()

    @torch.no_grad()
    def _roll(self, batch: Batch) -> Batch:
        """Let the later steps of the first rows begin at what the UNet itself makes of them at `began`."""
        rows = slice(ROLLED)
        first = add_noise(batch.photo[rows], batch.noise[rows], batch.began[rows])
        made = self._predict(first, batch.photo[rows], batch.began[rows], batch.states[rows])
        again = add_noise(made, batch.noise[rows], batch.timesteps[rows])
        return replace(batch, noisy=torch.cat([again, batch.noisy[ROLLED:]]))

    def _distance(self, step: int, made: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latent and pixel loss."""
        with torch.autocast(self.where.type, torch.bfloat16):
            latents = latent_loss(made, batch.wanted)
            if step < self.pixels_from:
                return latents, torch.zeros((), device=self.where)
            room = batch.photo.shape[-1] - PIXEL_CELLS + 1
            corner = (step * 7919 % room, step * 104729 % room)
            return latents, pixel_loss(self.autoencoder, self.features, made, batch.wanted, corner)


def train_unet(run: Path, data: Path, minutes: float, resume: bool, seed: int, steps: int = STEPS) -> None:
    """Train to `run/unet.pt`, sheets of samples to `run/sheets`; stops after `minutes`, goes on with `resume`."""
    torch.manual_seed(seed)
    training = UNetTraining(run, data, seed, steps)
    if resume and training.checkpoint.is_file():
        training.load()
    began, first, mean = time.monotonic(), training.step, [0.0, 0.0, 0.0]
    for step in steps_with_clock("unet", training.step, steps, minutes):
        losses = training.learn(step)
        mean = [old * 0.98 + 0.02 * new if old else new for old, new in zip(mean, losses, strict=True)]
        training.step = step + 1
        if training.step % SAVE_EVERY == 0:
            rate = (training.step - first) / (time.monotonic() - began)
            log.info("unet step %d  latents %.4f  pixels %.4f  critic %.3f  %.2f steps/s", training.step, *mean, rate)
            training.save()
        if training.step % SHEET_EVERY == 0:
            draw_sheet(run, load_unet(run), run / "sheets" / f"{training.step:06d}.png")
    training.save()
    draw_sheet(run, load_unet(run), run / "sheets" / f"{training.step:06d}.png")


def load_unet(run: Path) -> UNet2DConditionModel:
    """The averaged weights of `run`, in evaluation mode."""
    unet = new_unet()
    unet.load_state_dict(load_checkpoint(run / "unet.pt")["average"])
    return unet.eval().requires_grad_(False)
