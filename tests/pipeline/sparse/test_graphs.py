"""The sparse engine on captured functions, one for each shape of window: all but the capture, which needs a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends.graphs import GraphBackend, as_it_is
from pipeline.models.model import Model
from pipeline.sparse import networks as networks_module
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.costs import Costs

CONFIG = StreamConfig(prompt="ink", steps=1, strength=0.6, sparse=True)
KINDS = {"encoder", "decoder", "unet-part", "unet-whole"}


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """The embedded model on such a backend, whose windows are built at once and always taken."""
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    monkeypatch.setattr(networks_module, "IN_PARTS", ("eager", "cuda-graphs"))
    for name, value in (("FIRST", 50), ("FIRST_EVERY", 1), ("WORTH_BUILDING", 0.0)):
        monkeypatch.setattr(shapes_module, name, value)
    model = replace(load_model(device="cpu", dtype="float32"))
    model.backend = GraphBackend(model, "cuda-graphs", as_it_is)
    yield model
    model.backend.close()


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


def built(model: Model) -> set[str]:
    assert isinstance(model.backend, GraphBackend)
    return {spec[1] for spec in model.backend._networks.ready()}


def test_its_pictures_are_those_of_the_modules(captured: Model) -> None:
    eager = load_model(device="cpu", dtype="float32")
    streams = [Stream(model, CONFIG) for model in (captured, eager)]
    frames = clip()
    for stream, model in zip(streams, (captured, eager), strict=True):
        for frame in frames * 4:
            stream(frame)
            model.backend.wait()
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


def test_other_weights_are_captured_anew(captured: Model) -> None:
    stream, frames = Stream(captured, CONFIG), clip()
    for frame in frames * 3:
        stream(frame)
        captured.backend.wait()
    assert built(captured) == KINDS
    assert stream.sparse is not None
    stream.sparse.weights_changed()
    assert built(captured) == set()
    for frame in frames * 3:
        stream(frame)
        captured.backend.wait()
    assert built(captured) == KINDS
    stream.close()


def test_it_is_not_the_default_before_it_has_been_measured(captured: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stream = Stream(captured, CONFIG)
    assert stream.notes == ["sparse: cuda-graphs runs whole pictures; only a still scene is spared"]
    stream.close()
