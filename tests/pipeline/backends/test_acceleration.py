"""Every backend gives the pictures of the model itself, whatever is changed while it runs; broken caches heal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from pipeline import GUIDANCE_KINDS, SOLVERS, Model, Stream, StreamConfig, load_model
from pipeline.backends import AccelerationError, accelerate
from pipeline.backends.choice import _best
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache, weights_digest
from pipeline.backends.graphs import GraphBackend, as_it_is, shared_copy
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.package import is_installed
from tests.pipeline.pictures import psnr, sample_frame
from tests.tiny_model import tiny_model

openvino = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
BASE = StreamConfig(prompt="a watercolour", negative_prompt="a photo", steps=2, strength=0.7, guidance_scale=1.6)
CLOSE = 2e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    return EngineCache(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def fast(cache: EngineCache) -> Iterator[Model]:
    """A tiny model on OpenVINO in float32, its engines for one and two rows of 8x8 latents built."""
    model = accelerate(tiny_model(True), "openvino", cache)
    for steps in (1, 2):
        stream = Stream(model, replace(BASE, steps=steps))
        stream(frames(1)[0])
        stream(frames(1)[0])
        model.backend.wait()
    yield model
    model.backend.close()


@pytest.fixture
def built_only(fast: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """``fast``, and nothing new is built: where rows are many, the engines that are there take turns."""
    assert isinstance(fast.backend, OpenVinoBackend)
    monkeypatch.setattr(fast.backend._builder, "_order", lambda _: None)
    monkeypatch.setattr(fast.backend._eager, "denoise", lambda *_: pytest.fail("the model itself was called"))
    return fast


def frames(count: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, generator=generator)


def pictures(model: Model, config: StreamConfig, clip: torch.Tensor, buffer: int = 1) -> torch.Tensor:
    stream = Stream(model, config)
    return torch.cat([stream(group).image for group in clip.split(buffer)])


@openvino
@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), list(product([1, 2, 4], [1, 2])))
def test_every_stream_is_that_of_the_model_itself(built_only: Model, steps: int, buffer: int, guidance: str) -> None:
    clip = frames(2 * buffer)
    # A backend does not see the solver: a third of them in each case crosses them with everything else.
    for solver in SOLVERS[(steps + buffer + GUIDANCE_KINDS.index(guidance)) % 3 :: 3]:
        config = replace(BASE, steps=steps, guidance=guidance, solver=solver)
        expected = pictures(tiny_model(True), config, clip, buffer)
        assert torch.allclose(pictures(built_only, config, clip, buffer), expected, atol=CLOSE), solver


@openvino
def test_live_changes_need_no_other_engine(built_only: Model) -> None:
    changes = [
        {"prompt": "a neon sign"},
        {"strength": 0.3},
        {"guidance": "self-negative", "guidance_scale": 1.2},
        {"guidance": "full", "negative_prompt": "grey"},
        {"solver": "dpmpp-2m", "seed": 5, "steps": 4},
        {"steps": 1},
    ]
    streams = [Stream(model, BASE) for model in (tiny_model(True), built_only)]
    config = BASE
    for change, clip in zip(changes, frames(5 * len(changes)).split(5), strict=True):
        config = replace(config, **change)
        for stream in streams:
            stream.configure(config)
        for frame in clip:
            expected, got = (stream(frame).image for stream in streams)
            assert torch.allclose(got, expected, atol=CLOSE), change


@openvino
def test_the_model_itself_serves_until_an_engine_is_there(cache: EngineCache) -> None:
    model = accelerate(tiny_model(True), "openvino", cache)
    clip = frames(3, 72)
    expected = pictures(tiny_model(True), BASE, clip)
    stream = Stream(model, BASE)
    assert torch.equal(stream(clip[0]).image, expected[:1])
    model.backend.wait()
    assert torch.allclose(torch.cat([stream(frame).image for frame in clip[1:]]), expected[1:], atol=CLOSE)
    model.backend.close()


@openvino
def test_other_weights_are_seen_and_engines_are_found_again(fast: Model, cache: EngineCache) -> None:
    before = set(cache._folder.iterdir())
    own = accelerate(load_copy(tiny_model(True)), "openvino", cache)
    config, clip = replace(BASE, steps=1), frames(1)
    stream = Stream(own, config)
    stream(clip)
    own.backend.wait()
    assert set(cache._folder.iterdir()) == before, "engines of the same weights were built again"
    with torch.no_grad():
        for module in own.unet.modules():
            if getattr(module, "is_cross_attention", False):
                module.to_v.weight.mul_(3)
    stream(clip)
    own.backend.wait()
    expected = pictures(load_copy(own), config, clip)
    assert not torch.allclose(expected, pictures(fast, config, clip), atol=10 * CLOSE)
    assert torch.allclose(stream(clip).image, expected, atol=CLOSE)
    own.backend.close()


def load_copy(model: Model) -> Model:
    """The same weights in modules of their own, run by PyTorch."""
    from pipeline.conditioning.attention_cache import uncached_copy

    return replace(model, unet=uncached_copy(model.unet), backend=None)  # type: ignore[arg-type]


@openvino
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another version"])
def test_a_damaged_engine_counts_as_missing(cache: EngineCache, tmp_path: Path, damage: str) -> None:
    own = EngineCache(tmp_path)
    for file in cache._folder.iterdir():
        whole = file.read_bytes()
        content = {
            "truncated": whole[:-100],
            "flipped": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
            "empty": b"",
            "another version": b"vitrail engine 0\n" + whole[17:],
        }[damage]
        (tmp_path / file.name).write_bytes(content)
        assert own.load(file.stem) is None
        assert not (tmp_path / file.name).exists()


def test_a_cache_that_cannot_be_written_is_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    cache.store("key", b"content")
    assert cache.load("key") is None
    assert "cannot be kept" in caplog.text


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.store("key", b"content")
    assert cache.load("key") == b"content"
    assert cache.load("other") is None
    assert [file.name for file in tmp_path.iterdir()] == ["key.engine"]


def test_a_digest_knows_weights_and_structure() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    with torch.no_grad():
        other.bias[0] += 1e-3
    assert weights_digest(one) != weights_digest(other)
    assert weights_digest(torch.nn.ReLU()) != weights_digest(torch.nn.SiLU())


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_captured_functions_give_the_pictures_of_the_model(guidance: str) -> None:
    """Everything but the capture itself, which needs a GPU (see test_gpu.py)."""
    model = replace(tiny_model(True))
    model.backend = GraphBackend(model, "cuda-graphs", as_it_is)
    config, clip = replace(BASE, guidance=guidance), frames(4)
    stream, itself = Stream(model, config), Stream(tiny_model(True), config)
    for index, frame in enumerate(clip):
        if index == 2:
            for one in (stream, itself):
                one.configure(replace(config, prompt="a neon sign", strength=0.4))
        assert torch.allclose(stream(frame).image, itself(frame).image, atol=1e-5), index
        model.backend.wait()
    kinds = sorted({spec[0] for spec in model.backend._builder.ready()})
    assert kinds == ["decoder", "encoder", "unet"]
    model.backend.close()


def test_captured_functions_see_a_change_of_the_weights_in_place() -> None:
    model = load_copy(tiny_model())
    copy = shared_copy(model.unet)
    assert all(a is b for a, b in zip(model.unet.parameters(), copy.parameters(), strict=True))
    assert all(a is not b for a, b in zip(model.unet.modules(), copy.modules(), strict=True))


@openvino
def test_engines_of_the_embedded_model_paint_the_same_picture(tmp_path: Path) -> None:
    """In the number format that a user gets, against float32, on a real frame."""
    frame = sample_frame()
    config = StreamConfig(prompt="a watercolour painting", steps=1)
    expected = Stream(load_model(device="cpu", dtype="float32"), config)(frame).image
    model = accelerate(load_model(device="cpu"), "openvino", EngineCache(tmp_path))
    stream = Stream(model, config)
    assert psnr(stream(frame).image, expected) >= 40  # PyTorch, in that number format
    model.backend.wait()
    assert isinstance(model.backend, OpenVinoBackend)
    assert {spec[0] for spec in model.backend._builder.ready()} == {"encoder", "unet", "decoder"}
    assert [spec[:2] for spec in model.backend._small_networks.ready()] == [("network", "decoder")], "in eight bits"
    assert psnr(stream(frame).image, expected) >= 40
    model.backend.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("warp", "must be one of auto, eager"),
        ("openvino-npu", "OpenVINO finds no NPU here"),
        ("cuda-graphs", "needs a CUDA device"),
        ("tensorrt", "needs a CUDA device"),
    ],
)
@openvino
def test_what_cannot_be_had_is_said(wanted: str, words: str) -> None:
    with pytest.raises(AccelerationError, match=words):
        accelerate(tiny_model(), wanted)


def test_without_openvino_auto_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backends.openvino.backend.is_installed", lambda: False)
    notes: list[str] = []
    assert isinstance(_best(tiny_model(), notes, None), EagerBackend)
    assert "pip install 'vitrail[openvino]'" in notes[0]


@openvino
def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Importing it plainly writes a user's number into the home folder."""
    code = "import sys; from pipeline.backends.openvino.package import import_converter; import_converter(); "
    code += "sys.exit(any(name.startswith('openvino_telemetry.') for name in sys.modules))"
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)
    assert not list(tmp_path.iterdir())
