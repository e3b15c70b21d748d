"""Networks in eight bits: how exact they are, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from assets.training.export import BOUNDS_FILE as EXPORTED
from pipeline import Stream, StreamConfig, load_model
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.package import is_installed
from pipeline.backends.quantised import QuantisedConv, measure_bounds, quantise
from pipeline.backends.spec import Spec
from pipeline.models.adapters import Adapters
from pipeline.models.bounds import BOUNDS_FILE, Bounds, read_bounds
from pipeline.models.residency import AUTOENCODER, DENOISER
from tests.pipeline.backends.calls import decoded, encoded
from tests.pipeline.pictures import psnr, sample_frame


def test_a_convolution_is_as_exact_as_its_steps():
    torch.manual_seed(0)
    exact = nn.Conv2d(4, 6, 3, padding=1)
    x = torch.rand(2, 4, 9, 9) * 3 - 1
    bounds = measure_bounds(nn.Sequential(exact), [(x[:1],), (x[1:],)])
    assert bounds == {"0": (float(x.min()), float(x.max()))}
    (low, high) = bounds["0"]
    quantised = QuantisedConv(exact, low, high)
    error = (quantised(x) - exact(x)).abs().max()
    # Half a step of every factor, at worst all in the same direction.
    inputs, weights = (high - low) / 255 / 2, exact.weight.abs().amax() / 127 / 2
    worst = 36 * (inputs * exact.weight.abs().max() + weights * x.abs().max() + inputs * weights)
    assert 0 < error < worst
    assert quantised(torch.full((1, 4, 9, 9), 100.0)).equal(quantised(torch.full((1, 4, 9, 9), high)))


def test_only_what_is_named_is_replaced():
    module = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Sequential(nn.Conv2d(1, 1, 3)))
    quantise(module, {"1.0": (0.0, 1.0), "2.unknown": (0.0, 1.0)})
    assert [type(module.get_submodule(name)) for name in ("0", "1.0")] == [nn.Conv2d, QuantisedConv]


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"unet": 1}']
    + [f'{{"unet": {{"a": {ends}}}}}' for ends in ("1", "[0]", "[1, 2]", "[0, NaN]", "[0, 0]", '["x", 1]')],
)
def test_bounds_that_make_no_sense_are_none(tmp_path: Path, text: str):
    assert read_bounds(tmp_path) == {}
    (tmp_path / BOUNDS_FILE).write_text(text)
    assert read_bounds(tmp_path) == {}
    (tmp_path / BOUNDS_FILE).write_text('{"unet": {"a": [-1, 2.5]}}')
    assert read_bounds(tmp_path) == {"unet": {"a": (-1.0, 2.5)}}
    assert EXPORTED == BOUNDS_FILE


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
def test_whole_pictures_are_decoded_in_eight_bits_and_parts_exactly(tmp_path: Path):
    model = load_model(dtype="float32")
    backend = OpenVinoBackend(model, cache=EngineCache(tmp_path))
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    try:
        Stream(model, StreamConfig(prompt="a watercolour"), backend)(torch.zeros(3, 64, 64))
        decoded(backend, model, latents[:, :, :4])
        backend.wait()
        whole = Spec("decoder", AUTOENCODER, (("latents", torch.float32, (1, 16, 8, 8)),))
        assert list(backend._of_autoencoder.ready()) == [whole]
        exact = model.autoencoder.decode(latents)
        assert 35 < psnr(decoded(backend, model, latents), exact) < 60
        exact = model.autoencoder.decode(latents[:, :, :4])
        assert psnr(decoded(backend, model, latents[:, :, :4].contiguous()), exact) > 80
        assert backend.news() == []
    finally:
        backend.close()


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
@pytest.mark.parametrize("found_out", ["here", "by another builder meanwhile"])
def test_a_decoder_that_cannot_be_built_so_is_built_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found_out: str
):
    def fail(_: object, bounds: Bounds) -> None:
        if bounds:
            if found_out != "here":
                backend._bounds.pop("decoder")
            raise RuntimeError("no integers here")

    monkeypatch.setattr("pipeline.backends.openvino.backend.quantise", fail)
    model = load_model(dtype="float32")
    backend = OpenVinoBackend(model, cache=EngineCache(tmp_path))
    try:
        latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
        backend._whole = (8, 8)
        decoded(backend, model, latents)
        backend.wait()
        assert [spec.network for spec in backend._of_autoencoder.ready()] == ["decoder"]
        assert [spec.network for spec in backend._pictures.ready()] == ["decoder"]
        assert psnr(decoded(backend, model, latents), model.autoencoder.decode(latents)) > 60
        assert backend.news() == []
    finally:
        backend.close()


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
def test_in_float32_the_unet_calculates_in_eight_bits_but_with_loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain, model = load_model(dtype="float32"), load_model(dtype="float32")
    frame = sample_frame()
    config = StreamConfig(prompt="a watercolour", steps=1)
    expected = Stream(plain, config)(frame).image
    backend = OpenVinoBackend(model, cache=EngineCache(tmp_path))
    stream = Stream(model, config, backend)
    try:
        stream(frame)
        backend.wait()
        near = psnr(stream(frame).image, expected)
        assert 34 < near < 48
        monkeypatch.setattr(Adapters, "in_denoiser", True)
        with model.residency.changing(DENOISER):
            pass
        stream(frame)
        backend.wait()
        assert psnr(stream(frame).image, expected) > near + 4  # as near as the decoder in eight bits
        assert backend.news() == []
    finally:
        backend.close()


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
@pytest.mark.parametrize("named", [True, False])
def test_in_float32_the_encoder_calculates_in_eight_bits_but_for_its_trunk(tmp_path: Path, named: bool):
    model = load_model(dtype="float32")
    assert all(".conv." in name for name in model.bounds["encoder"])
    if not named:
        model = replace(model, bounds={})
    backend = OpenVinoBackend(model, cache=EngineCache(tmp_path))
    pictures = sample_frame()[None]
    try:
        encoded(backend, model, pictures)
        backend.wait()
        exact, found = model.autoencoder.encode(pictures), encoded(backend, model, pictures)
        near = psnr(model.autoencoder.decode(found), model.autoencoder.decode(exact))
        assert 55 < near < 85 if named else near > 95
        assert backend.news() == []
    finally:
        backend.close()


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
def test_a_part_of_a_picture_is_calculated_like_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found: list[tuple[str, Bounds]] = []

    def note(module: nn.Module, bounds: Bounds) -> None:
        found.append((type(module).__name__, bounds))
        quantise(module, bounds)

    model = load_model(dtype="float32")
    backend = OpenVinoBackend(model, cache=EngineCache(tmp_path))
    monkeypatch.setattr("pipeline.backends.openvino.backend.quantise", note)
    still = torch.nn.functional.interpolate(sample_frame()[None], scale_factor=2)[0]
    config = StreamConfig(prompt="a watercolour", steps=1)
    sparse, dense = Stream(model, replace(config, sparse=True), backend), Stream(model, config, backend)
    kinds: set[str] = set()
    pictures: list[torch.Tensor] = []
    try:
        for number in range(40):
            frame = still.clone()
            frame[:, :40, :40] *= 0.5 + 0.4 * (number % 2)
            pictures = [stream(frame).image.clone() for stream in (sparse, dense)]
            backend.wait()
            kinds |= {spec.network for builder in backend._builders() for spec in builder.ready()}
        assert kinds >= {"denoiser/recording", "denoiser/window"}
        parts = {"EncoderTiny": "encoder", "DecoderTiny": "decoder", "UNet2DConditionModel": "unet"}
        assert len(found) > 3
        exact = [name for name, bounds in found if not bounds]
        assert exact == ["DecoderTiny"], "the one that takes pictures of any size, and no other"
        assert all(bounds == model.bounds[parts[name]] for name, bounds in found if bounds)
        assert psnr(*pictures) > 40
        assert backend.news() == []
    finally:
        backend.close()
