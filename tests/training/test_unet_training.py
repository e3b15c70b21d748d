"""What the UNet learns from: batches, and a critic that learns to tell and pulls towards what it was shown."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from assets.training.adversary import Adversary
from assets.training.latents import CELLS
from assets.training.prompts import STYLE_IDS, TINT_IDS
from assets.training.samples import FLICKER, PAIRS, ROLLED, Sampler
from assets.training.schedule import TRAIN_STEPS, alphas_cumprod, style_amount
from assets.training.store import save_checkpoint
from assets.training.text import WIDTH
from assets.training.unet import STEADY_FROM, flicker

SHAPE = (4, 16, 8, 8)


def test_learns_to_tell_and_pulls_the_right_way() -> None:
    torch.manual_seed(0)
    adversary = Adversary(torch.device("cpu"))
    photo, amount, wishes = torch.randn(SHAPE), torch.ones(4), torch.tensor([0, 1, 2, 3])
    wanted, made = torch.randn(SHAPE) + 1, torch.randn(SHAPE) - 1
    losses = [adversary.learn(made, wanted, photo, amount, wishes) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    near = adversary.loss(wanted + 0.1 * made, wanted, photo, amount, wishes)
    assert near < adversary.loss(made, wanted, photo, amount, wishes)
    assert all(weight.requires_grad for weight in adversary.critic.parameters())


def synthetic_run(folder: Path) -> Path:
    """A run folder with the latents of two photos in every style, and the prompts' states."""
    generator = np.random.default_rng(0)
    pictures, latents = folder / "pictures", folder / "latents"
    for path in (pictures, latents):
        path.mkdir()
    (pictures / "index.json").write_text(json.dumps({"train": 2, "photos": ["a", "b"]}), encoding="utf-8")
    for style in STYLE_IDS:
        array = generator.standard_normal((2, 16, CELLS, CELLS)).astype(np.float16)
        np.save(latents / f"{style}.npy", array)
        np.save(latents / f"{style}.done.npy", np.ones(2, bool))
    np.save(latents / "tinted.npy", generator.standard_normal((2, 16, CELLS, CELLS)).astype(np.float16))
    (latents / "tinted.json").write_text(json.dumps([[0, 0, 1], [1, 2, 1]]), encoding="utf-8")
    (folder / "text.pt").touch()
    wishes = [(style, tint) for style in range(len(STYLE_IDS)) for tint in range(len(TINT_IDS))]
    save_checkpoint(folder / "prompts.pt", {f"{style} {tint}": torch.randn(2, 77, WIDTH) for style, tint in wishes})
    return folder


def test_batches_are_what_the_unet_meets(tmp_path: Path) -> None:
    sampler = Sampler(synthetic_run(tmp_path), 1, torch.device("cpu"))
    batch = sampler.batch(7, 64, 8)
    assert batch.photo.shape == batch.wanted.shape == batch.noisy.shape == (64, 16, 8, 8)
    assert bool((batch.began >= batch.timesteps).all())
    assert bool((batch.began < TRAIN_STEPS).all())
    torch.testing.assert_close(batch.amount, style_amount(batch.began))
    # What the noise was added to: the photo on a first step, the style made so far on a later one.
    kept = alphas_cumprod()[batch.timesteps][:, None, None, None]
    start = (batch.noisy - (1 - kept).sqrt() * batch.noise) / kept.sqrt()
    later = batch.began > batch.timesteps
    seen = batch.timesteps < 900
    assert bool(later[:ROLLED].any())
    assert not bool(later.all())
    torch.testing.assert_close(start[later & seen], batch.wanted[later & seen], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(sampler.batch(7, 64, 8).noisy, batch.noisy)


def test_pairs_differ_by_a_cameras_noise_alone(tmp_path: Path) -> None:
    batch = Sampler(synthetic_run(tmp_path), 1, torch.device("cpu")).batch(7, 64, 8)
    for field in fields(batch):
        values = getattr(batch, field.name)[-2 * PAIRS :]
        if field.name in ("photo", "noisy"):
            assert not torch.equal(values[0], values[1])
        else:
            torch.testing.assert_close(values[0::2], values[1::2])
    apart = (batch.photo[-2 * PAIRS :: 2] - batch.photo[1 - 2 * PAIRS :: 2]).std()
    assert float(apart) == pytest.approx(FLICKER * 2**0.5, rel=0.1)
    first = batch.photo[: -2 * PAIRS]
    assert torch.cdist(first.flatten(1), first.flatten(1)).fill_diagonal_(9).min() > 1  # no other rows are pairs


def test_only_flicker_that_the_input_does_not_have_counts() -> None:
    picture = torch.zeros(4, 3, 2, 2)
    picture[1], picture[3] = STEADY_FROM / 2, 0.1
    assert float(flicker(picture)) == pytest.approx((0.1 - STEADY_FROM) / 2)
