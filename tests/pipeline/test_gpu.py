"""The engine on a CUDA device: the same pictures, and a host that never waits for the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipeline import GUIDANCE_KINDS, Stream, StreamConfig, load_model
from pipeline.backends import AccelerationError, accelerate
from pipeline.backends.graphs import GraphBackend
from pipeline.sparse import networks
from pipeline.sparse.costs import Costs

pytestmark = [
    pytest.mark.gpu,
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


@pytest.mark.parametrize("acceleration", ["cuda-graphs", "compile", "tensorrt"])
def test_accelerated_pictures_are_those_of_the_model(acceleration: str) -> None:
    itself = load_model(device="cuda")
    try:
        model = accelerate(itself, acceleration)
    except AccelerationError as error:
        pytest.skip(str(error))
    config, clip = replace(CONFIG, guidance="onetime-negative"), clip_of(8)
    stream, expected = Stream(model, config), Stream(itself, config)
    for index, frame in enumerate(clip):
        if index == 5:
            for one in (stream, expected):
                one.configure(replace(config, prompt="a neon sign", strength=0.5))
        error = (stream(frame).image - expected(frame).image).square().mean()
        assert -10 * torch.log10(error) >= 40, index
        model.backend.wait()
    assert isinstance(model.backend, GraphBackend)
    assert {spec[0] for spec in model.backend._builder.ready()} == {"encoder", "unet", "decoder"}
    model.backend.close()


def clip_with_a_square() -> torch.Tensor:
    """It moves, and nothing else does."""
    clip = clip_of(1).repeat(8, 1, 1, 1)
    for number, frame in enumerate(clip):
        frame[:, 96:128, 8 * number + 64 : 8 * number + 96] = number % 2
    return clip


@pytest.fixture
def always_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows on all backends that can run them, however slow: a fast device computes small pictures as a whole."""
    monkeypatch.setattr(networks, "IN_PARTS", ("eager", "cuda-graphs"))
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)


@pytest.mark.usefixtures("always_windows")
@pytest.mark.parametrize("acceleration", ["eager", "cuda-graphs"])
def test_sparse_pictures_are_nearly_those_of_the_whole(acceleration: str) -> None:
    model = accelerate(load_model(device="cuda"), acceleration)
    config = StreamConfig(prompt="a watercolour", steps=2)
    clip = clip_with_a_square()
    sparse, dense = Stream(model, replace(config, sparse=True)), Stream(model, config)
    for _ in range(4):
        for frame in clip:
            sparse(frame)
            model.backend.wait()
    sparse.reset()
    for index, frame in enumerate(clip):
        error = (sparse(frame).image - dense(frame).image).square().mean()
        assert -10 * torch.log10(error) >= 36, index
    assert sparse.sparse is not None
    assert max(sparse.sparse.shares().values()) < 1
    model.backend.close()


def test_what_windows_cost_is_measured_on_the_device() -> None:
    """Else nothing would ever fall back to the whole where that is faster."""
    stream = Stream(load_model(device="cuda"), StreamConfig(prompt="a watercolour", sparse=True))
    for frame in clip_with_a_square().repeat(4, 1, 1, 1):
        stream(frame)
    torch.cuda.synchronize()
    assert stream.sparse is not None
    for part in stream.sparse._parts().values():
        part.costs.worth([], (1, 1))  # it collects what has been measured
        assert all(0 < seconds < 1 for times in part.costs._whole.values() for seconds in times)
        assert part.costs._whole


@pytest.mark.usefixtures("always_windows", "no_synchronisation")
def test_a_sparse_stream_never_waits_for_the_device() -> None:
    config = replace(CONFIG, sparse=True, sparse_overlay=True)
    stream = Stream(load_model(device="cuda"), config)
    frames = clip_with_a_square().pin_memory()
    for frame in frames[:4]:
        stream(frame)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    for frame in frames[4:]:
        stream(frame)
    torch.cuda.set_sync_debug_mode("default")
    assert stream.sparse is not None
    assert max(stream.sparse.shares().values()) < 1


@pytest.mark.usefixtures("no_synchronisation")
@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_the_hot_path_never_waits_for_the_device(guidance: str) -> None:
    stream = Stream(load_model(device="cuda"), replace(CONFIG, guidance=guidance))
    frames = clip_of(6).pin_memory()
    for frame in frames[:3]:
        stream(frame)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    for frame in frames[3:]:
        stream(frame)
    torch.cuda.set_sync_debug_mode("default")
    assert stream.stages_ms()["unet"] > 0
