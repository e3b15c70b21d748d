"""The decoder learns from latents and the pictures that belong to them; the run then decodes with what it learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from assets.training.autoencoder import CROP, load_autoencoder, new_autoencoder
from assets.training.decoder import BATCH, SHARE_MADE, Pairs, cache_made
from assets.training.latents import CELLS
from assets.training.perceptual import statistics_distance
from assets.training.photos import SIZE
from assets.training.prompts import STYLE_IDS
from assets.training.store import save_checkpoint
from assets.training.unet import new_unet
from tests.training.test_unet_training import synthetic_run


def run_with_places(folder: Path) -> Path:
    """A run whose latents and pictures say where they are: a latent cell (y, x) belongs to the grey value y + x."""
    run = synthetic_run(folder)
    place = np.add.outer(np.arange(CELLS), np.arange(CELLS))
    for style in STYLE_IDS:
        latent = np.broadcast_to(place, (2, 16, CELLS, CELLS)).astype(np.float16)
        np.save(run / "latents" / f"{style}.npy", latent)
        picture = np.kron(place, np.ones((8, 8)))[None, ..., None].repeat(2, 0).repeat(3, 3)
        np.save(run / "pictures" / f"{style}.npy", picture.astype(np.uint8))
    return run


def test_a_batch_pairs_each_latent_with_its_picture(tmp_path: Path) -> None:
    run = run_with_places(tmp_path)
    plan = [(row, style) for style in range(len(STYLE_IDS)) for row in range(2)]
    np.save(run / "latents" / "made.npy", np.load(run / "latents" / "ink.npy")[[0] * len(plan)] + np.float16(100))
    (run / "latents" / "made.json").write_text(json.dumps(plan), encoding="utf-8")
    pairs = Pairs(run, 1)
    latents, pictures, made = pairs.batch(3)
    assert pictures.shape == (BATCH, 3, CROP, CROP)
    assert int(made.sum()) == round(SHARE_MADE * BATCH)
    seen = latents[:, 0] - 100 * made[:, None, None]
    torch.testing.assert_close(255 * pictures[:, 0, ::8, ::8], seen)
    assert len(seen[:, 0, 0].unique()) > 1  # not one crop again and again
    torch.testing.assert_close(pairs.batch(3)[0], latents)


def test_what_the_unet_makes_is_cached_once_and_named(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path)
    unet = new_unet()
    save_checkpoint(run / "unet.pt", {"average": unet.state_dict()})
    (run / "prompts.pt").touch()  # as new as the text encoder: not made again
    cache_made(run, 1)
    plan = json.loads((run / "latents" / "made.json").read_text())
    made = np.load(run / "latents" / "made.npy")
    assert sorted(plan) == sorted([row, style] for row in range(2) for style in range(len(STYLE_IDS)))
    assert made.shape == (len(plan), 16, CELLS, CELLS)
    assert made.dtype == np.float16
    assert bool(np.isfinite(made).all())
    np.save(run / "latents" / "made.npy", made[:1])
    cache_made(run, 1)
    assert len(np.load(run / "latents" / "made.npy")) == 1


def test_a_run_decodes_with_the_decoder_trained_on(tmp_path: Path) -> None:
    first, second = new_autoencoder(), new_autoencoder()
    save_checkpoint(tmp_path / "autoencoder.pt", {"average": first.state_dict()})
    latents = torch.randn(1, 16, SIZE // 64, SIZE // 64)
    torch.testing.assert_close(load_autoencoder(tmp_path).decoder(latents), first.decoder(latents))
    save_checkpoint(tmp_path / "decoder.pt", {"average": second.decoder.state_dict()})
    after = load_autoencoder(tmp_path)
    torch.testing.assert_close(after.decoder(latents), second.decoder(latents))
    assert not torch.allclose(first.decoder(latents), second.decoder(latents))
    frame = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(after.encoder(frame), first.encoder(frame))


def test_statistics_see_contrast_and_not_places() -> None:
    torch.manual_seed(0)
    theirs = torch.randn(2, 5, 8, 8)
    shuffled = theirs.flatten(2)[..., torch.randperm(64)].view_as(theirs)
    torch.testing.assert_close(statistics_distance([shuffled], [theirs]), torch.zeros(2), atol=1e-5, rtol=0)
    apart = [float(statistics_distance([k * theirs], [theirs]).mean()) for k in (1.1, 1.5, 2.0)]
    assert 0 < apart[0] < apart[1] < apart[2]
    blurred = torch.nn.functional.avg_pool2d(theirs, 3, 1, 1)
    assert float(statistics_distance([blurred], [theirs]).mean()) > apart[1]
