"""The engine on a CUDA device: the same pictures, and a host that never waits for the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pipeline import GUIDANCE_KINDS, Model, Stream, StreamConfig, load_model
from pipeline.backends import AccelerationError, accelerate
from pipeline.backends.backend import Backend
from pipeline.backends.graphs import GraphBackend
from pipeline.sparse.costs import Costs
from tests.checkpoints import write_model
from tests.tiny_model import write_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CONFIG = StreamConfig(prompt="a watercolour", negative_prompt="a photo", steps=2, guidance_scale=1.4)


@pytest.fixture
def no_synchronisation() -> Iterator[None]:
    """Whatever becomes of the test, the next one may wait for the device again."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def clip_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(count, 3, 16, 16, generator=generator)
    return torch.nn.functional.interpolate(smooth, size=(256, 256), mode="bilinear")


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_pictures_are_those_of_the_cpu(guidance: str) -> None:
    config, frames = replace(CONFIG, guidance=guidance), clip_of(4)
    pictures = []
    for device, dtype in (("cpu", "float32"), ("cuda", "auto")):
        stream = Stream(load_model(device=device, dtype=dtype), config)
        pictures.append(torch.stack([stream(frame).image.cpu() for frame in frames]))
    error = (pictures[0] - pictures[1]).square().mean()
    assert -10 * torch.log10(error) >= 40


@pytest.mark.parametrize("acceleration", ["cuda-graphs", "compile"])
def test_accelerated_pictures_are_those_of_the_model(acceleration: str) -> None:
    model = load_model(device="cuda")
    try:
        backend = accelerate(model, acceleration)
    except AccelerationError as error:
        pytest.skip(str(error))
    config, clip = replace(CONFIG, guidance="onetime-negative"), clip_of(8)
    stream, expected = Stream(model, config, backend), Stream(model, config)
    for index, frame in enumerate(clip):
        if index == 5:
            for one in (stream, expected):
                one.configure(replace(config, prompt="a neon sign", strength=0.5))
        error = (stream(frame).image - expected(frame).image).square().mean()
        assert -10 * torch.log10(error) >= 40, index
        backend.wait()
    assert isinstance(backend, GraphBackend)
    for builder in backend._pictures:
        assert {spec.network for spec in builder.ready()} == {"encoder", "denoiser", "decoder"}, backend.news()
    assert backend.news() == []
    backend.close()


def clip_with_a_square() -> torch.Tensor:
    """It moves, and nothing else does."""
    clip = clip_of(1).repeat(8, 1, 1, 1)
    for number, frame in enumerate(clip):
        frame[:, 96:128, 8 * number + 64 : 8 * number + 96] = number % 2
    return clip


@pytest.fixture
def always_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are taken however slow they are: a fast device computes small pictures as a whole."""
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)


def with_windows(model: Model, acceleration: str) -> Backend:
    """A backend that is taken to be good at windows, which none on CUDA is by default."""
    backend = accelerate(model, acceleration)
    backend.capabilities = replace(backend.capabilities, windows=True)
    return backend


@pytest.mark.usefixtures("always_windows")
@pytest.mark.parametrize("acceleration", ["eager", "cuda-graphs"])
def test_sparse_pictures_are_nearly_those_of_the_whole(acceleration: str) -> None:
    model = load_model(device="cuda")
    backend = with_windows(model, acceleration)
    config = StreamConfig(prompt="a watercolour", steps=2)
    clip = clip_with_a_square()
    sparse, dense = Stream(model, replace(config, sparse=True), backend), Stream(model, config, backend)
    for _ in range(4):
        for frame in clip:
            sparse(frame)
            backend.wait()
    sparse.reset()
    for index, frame in enumerate(clip):
        error = (sparse(frame).image - dense(frame).image).square().mean()
        assert -10 * torch.log10(error) >= 36, index
    assert sparse.sparse is not None
    assert max(sparse.sparse.shares().values()) < 1
    backend.close()


def test_what_windows_cost_is_measured_on_the_device() -> None:
    """Else nothing would ever fall back to the whole where that is faster."""
    model = load_model(device="cuda")
    config = StreamConfig(prompt="a watercolour", sparse=True)
    stream = Stream(model, config, with_windows(model, "eager"))
    for frame in clip_with_a_square().repeat(4, 1, 1, 1):
        stream(frame)
    torch.cuda.synchronize()
    assert stream.sparse is not None
    parts = stream.sparse._parts()
    assert parts.keys() == {"encode", "unet", "decode"}
    for part in parts.values():
        part.costs.worth([], (1, 1))  # it collects what has been measured
        assert all(0 < seconds < 1 for times in part.costs._whole.values() for seconds in times)
        assert part.costs._whole


def played_without_a_wait(stream: Stream, frames: torch.Tensor) -> list[torch.Tensor]:
    """The pictures of all frames but the first four; a call that waits for the device raises."""
    frames = frames.pin_memory()
    for frame in frames[:4]:
        stream(frame)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    pictures = [stream(frame).image for frame in frames[4:]]
    torch.cuda.set_sync_debug_mode("default")
    assert stream.stages_ms()["unet"] > 0
    return pictures


@pytest.mark.usefixtures("always_windows", "no_synchronisation")
def test_a_sparse_stream_never_waits_for_the_device() -> None:
    model, config = load_model(device="cuda"), replace(CONFIG, sparse=True, sparse_overlay=True)
    stream = Stream(model, config, with_windows(model, "eager"))
    played_without_a_wait(stream, clip_with_a_square())
    assert stream.sparse is not None
    assert max(stream.sparse.shares().values()) < 1


@pytest.mark.usefixtures("no_synchronisation")
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_the_hot_path_never_waits_for_the_device(guidance: str, sparse: bool) -> None:
    """As it is by default: with ``sparse``, only a still scene is spared."""
    stream = Stream(load_model(device="cuda"), replace(CONFIG, guidance=guidance, sparse=sparse))
    played_without_a_wait(stream, torch.cat([clip_of(6), clip_with_a_square(), clip_of(1).repeat(3, 1, 1, 1)]))


@pytest.mark.usefixtures("no_synchronisation")
@pytest.mark.parametrize("guidance", ["none", "full"])
def test_the_hot_path_of_an_sdxl_model_never_waits_for_the_device(guidance: str, tmp_path: Path) -> None:
    """Its denoiser is also told the size of the picture, and a pooled embedding."""
    model = load_model(str(write_model(tmp_path / "sdxl", "sdxl")), device="cuda")
    assert model.sized
    played_without_a_wait(Stream(model, replace(CONFIG, guidance=guidance)), clip_of(8))


@pytest.mark.usefixtures("no_synchronisation")
@pytest.mark.parametrize("sees_input", [False, True])
def test_the_hot_path_of_pictures_made_of_words_never_waits_for_the_device(sees_input: bool, tmp_path: Path) -> None:
    """They are on their way through seeds and prompts: noise, colours and prompts are others at each frame."""
    model = load_model(str(write_tiny_model(tmp_path / "tiny", sees_input=sees_input)), device="cuda")
    config = replace(
        CONFIG, guidance="full", prompt_b="a neon sign", text_to_image=True, seed_travel="walk", prompt_travel=True
    )
    first, *_, last = played_without_a_wait(Stream(model, config), clip_of(1).repeat(8, 1, 1, 1))
    assert not torch.equal(first, last)


@pytest.mark.usefixtures("no_synchronisation")
def test_a_prompt_that_turns_into_another_never_waits_for_the_device() -> None:
    """A transition of 30 frames, while the scene stands still; only its first call may wait, for the new prompt."""
    stream = Stream(load_model(device="cuda"), replace(CONFIG, transition=1.0))
    still = clip_of(1).repeat(12, 1, 1, 1)
    for frame in still[:2]:
        stream(frame)
    stream.configure(replace(stream.config, prompt="a neon sign"))
    pictures = played_without_a_wait(stream, still)
    assert not any(torch.equal(one, other) for one, other in pairwise(pictures))
