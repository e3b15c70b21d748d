"""The sparse engine on captured functions, one for each shape of window: all but the capture, which needs a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.backends import graphs as graphs_module
from pipeline.backends.eager import EagerBackend
from pipeline.backends.graphs import CAPABILITIES, CUDA_GRAPHS, GraphBackend
from pipeline.models.residency import AUTOENCODER, DENOISER
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.costs import Costs
from tests.tiny_model import unet_of

CONFIG = StreamConfig(prompt="ink", steps=1, strength=0.6, sparse=True)
# Networks that only the sparse engine has.
KINDS = {"encoder/window", "decoder/window", "denoiser/window", "denoiser/recording"}


@pytest.fixture(scope="module")
def embedded() -> Model:
    return load_model(device="cpu", dtype="float32")


@pytest.fixture
def captured(embedded: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphBackend]:
    """Such a backend of the embedded model, whose windows are built at once and always taken."""
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    monkeypatch.setattr(graphs_module, "CAPABILITIES", replace(CAPABILITIES, windows=True))
    for name, value in (("FIRST", 50), ("FIRST_EVERY", 1), ("WORTH_BUILDING", 0.0)):
        monkeypatch.setattr(shapes_module, name, value)
    backend = GraphBackend(embedded, "cuda-graphs", CUDA_GRAPHS)
    yield backend
    backend.close()


def clip() -> list[torch.Tensor]:
    """Two things of different sizes change where they are, in a still picture; then one of them moves."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, 16, 20, generator=generator)
    still = torch.nn.functional.interpolate(coarse, size=(256, 320), mode="bicubic")[0].clamp(0, 1)
    frames = [still.clone() for _ in range(6)]
    for number, frame in enumerate(frames):
        left = 16 + 16 * (number // 4)
        frame[:, 16:40, left : left + 24] = number % 3 / 2
        frame[:, 136:232, 280:304] = (number + 1) % 3 / 2
    return frames


def built(backend: GraphBackend) -> set[str]:
    """Of the networks that only the sparse engine has, those that are captured."""
    return {spec.network for builder in backend._builders() for spec in builder.ready()} & KINDS


def played(stream: Stream, frames: list[torch.Tensor]) -> None:
    """Take the frames, and wait after each for what it has ordered."""
    for frame in frames:
        stream(frame)
        stream.backend.wait()


def test_its_pictures_are_those_of_the_modules(embedded: Model, captured: GraphBackend) -> None:
    streams = [Stream(embedded, CONFIG, backend) for backend in (captured, EagerBackend(embedded))]
    frames = clip()
    for stream in streams:
        played(stream, frames * 4)
        stream.reset()
    assert built(captured) == KINDS
    for number, frame in enumerate(frames * 2):
        one, other = (stream(frame).image for stream in streams)
        assert (one - other).abs().max() < 1e-5, number
    for stream in streams:
        assert stream.notes == []
        assert stream.sparse is not None
        assert max(stream.sparse.shares().values()) < 1
        stream.close()


def test_weights_written_in_place_are_seen_by_what_is_captured(embedded: Model, captured: GraphBackend) -> None:
    """Graphs stand on the model's own weights: nothing is captured anew, and what was computed before is dropped."""
    streams = [Stream(embedded, CONFIG, backend) for backend in (captured, EagerBackend(embedded))]
    frames = clip()
    for stream in streams:
        played(stream, frames * 4)
        stream.reset()
        played(stream, frames)
    assert built(captured) == KINDS
    before = [builder.ready() for builder in captured._builders()]
    last = streams[0](frames[-1]).image.clone()
    with embedded.residency.changing(DENOISER), torch.no_grad():
        unet_of(embedded).conv_out.weight.mul_(0.8)
    assert [builder.ready() for builder in captured._builders()] == before
    changed = [stream(frames[-1]).image for stream in streams]
    assert (changed[0] - last).abs().max() > 0.01
    assert (changed[0] - changed[1]).abs().max() < 1e-5
    for stream in streams:
        played(stream, frames * 4)
        stream.reset()
    for number, frame in enumerate(frames * 2):
        one, other = (stream(frame).image for stream in streams)
        assert (one - other).abs().max() < 1e-5, number
    for stream in streams:
        stream.close()


def test_weights_that_moved_are_captured_anew(embedded: Model, captured: GraphBackend) -> None:
    stream, frames = Stream(embedded, CONFIG, captured), clip()
    played(stream, frames * 3)
    assert built(captured) == KINDS
    with embedded.residency.changing(DENOISER, moved=True):
        pass
    assert built(captured) == {"encoder/window", "decoder/window"}
    with embedded.residency.changing(AUTOENCODER, moved=True):
        pass
    assert built(captured) == set()
    played(stream, frames * 3)
    assert built(captured) == KINDS
    stream.close()


def test_it_is_not_the_default_before_it_has_been_measured(embedded: Model) -> None:
    backend = GraphBackend(embedded, "cuda-graphs", CUDA_GRAPHS)
    stream = Stream(embedded, CONFIG, backend)
    assert stream.notes == ["sparse: cuda-graphs runs whole pictures here; only a still scene is spared"]
    stream.close()
    backend.close()
