"""The sparse autoencoder against the dense one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import nn

from pipeline.models import load_model
from pipeline.sparse import chain as chain_module
from pipeline.sparse.autoencoder import DECODER_MARGIN, SparseAutoencoder
from pipeline.sparse.chain import Unsupported
from pipeline.sparse.region import Region

SIZES = [(128, 128), (96, 200), (72, 104), (136, 64)]


@pytest.fixture(autouse=True)
def _always_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tiles are active: what is tested is the sparse path, not the gate."""
    monkeypatch.setattr(chain_module, "DENSE_SHARE", 1.1)


def module(seed: int = 0, blocks: tuple[int, ...] = (1, 2, 1, 1), act: str = "relu") -> Any:
    """Of the published layout, which has a block at full resolution as well; random weights that keep their scale."""
    torch.manual_seed(seed)
    made = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks[::-1],
        act_fn=act,
    )
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return made.eval().requires_grad_(False)


@cache
def embedded() -> Any:
    return load_model(device="cpu", dtype="float32").autoencoder.module


def changed(size: tuple[int, int], places: list[tuple[int, int, int, int]]) -> np.ndarray:
    """(ceil(H / 8), ceil(W / 8)) bool: rows, columns of blocks (top, left, bottom, right)."""
    blocks = np.zeros((-(-size[0] // 8), -(-size[1] // 8)), bool)
    for top, left, bottom, right in places:
        blocks[top:bottom, left:right] = True
    return blocks


def pixels(blocks: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]])


def pair(size: tuple[int, int], blocks: np.ndarray, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures that differ in ``blocks`` alone."""
    generator = torch.Generator().manual_seed(1)
    before = torch.rand(1, channels, *size, generator=generator) * 2 - 1
    other = torch.rand(1, channels, *size, generator=generator) * 2 - 1
    return before, torch.where(pixels(blocks, size), other, before)


def places(size: tuple[int, int]) -> list[np.ndarray]:
    """A corner, two opposite corners, one border, the inside, a line, and everything."""
    down, across = -(-size[0] // 8), -(-size[1] // 8)
    return [
        changed(size, [(0, 0, 1, 1)]),
        changed(size, [(0, across - 1, 1, across), (down - 1, 0, down, 1)]),
        changed(size, [(3, 0, 5, 1)]),
        changed(size, [(3, 3, 5, 4)]),
        changed(size, [(down // 2, 0, down // 2 + 1, across)]),
        changed(size, [(0, 0, down, across)]),
    ]


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [module, embedded])
def test_the_encoder_is_exact(make, size: tuple[int, int]) -> None:
    autoencoder = make()
    sparse = SparseAutoencoder(autoencoder)
    for blocks in places(size):
        before, after = pair(size, blocks)
        expected = autoencoder.encode(after).latents
        sparse.inject()
        sparse.encode_next(None)
        old = autoencoder.encode(before).latents
        sparse.encode_next(Region(blocks[None], size))
        found = autoencoder.encode(after).latents
        assert max(sparse.shares["encode"]) <= 1
        if not blocks.all():
            assert min(sparse.shares["encode"]) < 1, "nothing was left out"
        sparse.eject()
        assert not torch.allclose(old, expected, atol=1e-4)
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
def test_the_decoder_with_everything_changed_equals_dense(size: tuple[int, int]) -> None:
    autoencoder = embedded()
    sparse = SparseAutoencoder(autoencoder)
    latent_size = (size[0] // 8, size[1] // 8)
    generator = torch.Generator().manual_seed(2)
    before, after = torch.randn(2, 1, 16, *latent_size, generator=generator)
    expected = autoencoder.decode(after).sample
    sparse.inject()
    sparse.decode_next(None)
    autoencoder.decode(before)
    sparse.decode_next(Region(np.ones((1, *latent_size), bool), size))
    found = autoencoder.decode(after).sample
    sparse.eject()
    assert torch.allclose(found, expected, rtol=1e-5, atol=2e-5)


@torch.inference_mode()
@pytest.mark.parametrize("make", [module, embedded])
@pytest.mark.parametrize("size", SIZES)
def test_the_decoder_equals_a_dense_one_that_composites_after_every_unit(make, size: tuple[int, int]) -> None:
    autoencoder = make()
    sparse = SparseAutoencoder(autoencoder)
    units = sparse._decoder._units
    channels = autoencoder.config.latent_channels
    for blocks in places(size)[:5]:
        before, after = (x[:, :, ::8, ::8] for x in pair(size, blocks, channels))
        sparse.inject()
        sparse.decode_next(None)
        autoencoder.decode(before)
        caches = [unit.cache.clone() for unit in units if unit.cache is not None]
        region = Region(blocks[None], size)
        sparse.decode_next(region)
        found = autoencoder.decode(after).sample
        sparse.eject()
        x = torch.tanh(after / 3) * 3
        for unit, kept in zip(units, caches, strict=True):
            height, width = kept.shape[2:]
            tile = chain_module.tile_side(height, width)
            tiles = region.tiles(height, width, unit.scale, tile, DECODER_MARGIN, x.device)
            mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
            for _, down, across in tiles._grid:
                mask[:, :, down * tile : (down + 1) * tile, across * tile : (across + 1) * tile] = True
            for layer in unit.layers:
                x = layer(x)
            x = torch.where(mask, x, kept)
        assert torch.allclose(found, x * 2 - 1, rtol=1e-5, atol=1e-4)


@torch.inference_mode()
def test_nothing_changed_gives_the_cached_output_and_calls_no_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, size = embedded(), (64, 96)
    sparse = SparseAutoencoder(autoencoder)
    sparse.inject()
    picture = torch.rand(1, 3, *size)
    latent = autoencoder.encode(picture).latents
    decoded = autoencoder.decode(latent).sample

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a convolution was called")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    still = Region(np.zeros((1, 8, 12), bool), size)
    sparse.encode_next(still)
    sparse.decode_next(still)
    assert torch.equal(autoencoder.encode(torch.rand(1, 3, *size)).latents, latent)
    assert torch.equal(autoencoder.decode(torch.randn_like(latent)).sample, decoded)
    sparse.eject()


@torch.inference_mode()
def test_rows_do_not_touch_each_other() -> None:
    autoencoder, size = embedded(), (96, 64)
    sparse = SparseAutoencoder(autoencoder)
    blocks = np.stack([changed(size, [(2, 2, 4, 4)]), changed(size, []), changed(size, [(11, 0, 12, 8)])])
    pairs = [pair(size, one) for one in blocks]
    before, after = (torch.cat(side) for side in zip(*pairs, strict=True))
    expected = autoencoder.encode(after).latents
    latents = autoencoder.encode(before).latents
    sparse.inject()
    sparse.encode_next(None)
    sparse.decode_next(None)
    autoencoder.encode(before)
    old = autoencoder.decode(latents).sample
    region = Region(blocks, size)
    sparse.encode_next(region)
    sparse.decode_next(region)
    # The second row's input changes, but its mask does not say so: it must stay, and no other row may see it.
    after[1] = 0
    found = autoencoder.encode(after).latents
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    new = autoencoder.decode(expected).sample
    sparse.eject()
    assert torch.equal(new[1], old[1])
    assert not torch.equal(new[0], old[0])
    alone = SparseAutoencoder(autoencoder)
    alone.inject()
    alone.decode_next(None)
    autoencoder.decode(latents[2:])
    alone.decode_next(Region(blocks[2:], size))
    assert torch.allclose(autoencoder.decode(expected[2:]).sample, new[2:], rtol=1e-5, atol=1e-5)
    alone.eject()


@torch.inference_mode()
def test_eject_is_the_exact_inverse_of_inject() -> None:
    autoencoder = module()
    picture = torch.rand(1, 3, 64, 64)
    before = autoencoder.encode(picture).latents
    state = [set(vars(part)) for part in autoencoder.modules()]
    sparse, other = SparseAutoencoder(autoencoder), SparseAutoencoder(autoencoder)
    sparse.inject()
    autoencoder.encode(picture)
    assert sparse.memory > 0
    other.inject()
    assert other.injected
    assert not sparse.injected, "one module, two owners"
    sparse.eject()
    assert other.injected
    other.eject()
    assert [set(vars(part)) for part in autoencoder.modules()] == state
    assert torch.equal(autoencoder.encode(picture).latents, before)
    assert sparse.memory == other.memory == 0


@torch.inference_mode()
def test_another_size_or_batch_is_dense_and_then_sparse_again() -> None:
    autoencoder = module()
    sparse = SparseAutoencoder(autoencoder)
    sparse.inject()
    for size, rows in (((64, 64), 1), ((64, 96), 1), ((64, 96), 2)):
        picture = torch.rand(rows, 3, *size)
        sparse.encode_next(Region(np.zeros((rows, size[0] // 8, size[1] // 8), bool), size))
        found = autoencoder.encode(picture).latents
        assert sparse.shares["encode"] == [1.0] * len(sparse.shares["encode"])
        assert torch.equal(autoencoder.encode(picture * 0).latents, found), "an empty mask keeps what was there"
    sparse.eject()


def test_what_cannot_be_run_on_tiles_is_refused_with_a_reason() -> None:
    with pytest.raises(Unsupported, match="with ReLU"):
        SparseAutoencoder(module(act="gelu"))
    with pytest.raises(Unsupported, match="Linear"):
        SparseAutoencoder(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="must be bool"):
        Region(np.zeros((1, 3, 3), bool), (64, 64))
