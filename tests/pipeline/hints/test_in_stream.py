"""Each picture leaves with the hint that it was made with, however many steps and frames lie between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import Model, Stream, StreamConfig
from pipeline.hints.canny import canny
from pipeline.hints.pixels import drawn
from pipeline.hints.sketch import sketch
from pipeline.trail import Trail
from tests.controls import new_adapter, write_control
from tests.tiny_model import tiny_model, unet_of


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_control(tmp_path_factory.mktemp("control") / "adapter", new_adapter(unet_of(tiny_model())))


def scenes(count: int) -> torch.Tensor:
    """(count, 3, 64, 64) a white square at a place of its own in each."""
    frames = torch.zeros(count, 3, 64, 64)
    for number, frame in enumerate(frames):
        frame[:, 8 + 2 * number : 40 + 2 * number, 16:48] = 1
    return frames


def stream_of(adapter: Path, steps: int, hints: str = "canny:0.8") -> Stream:
    model: Model = tiny_model()
    kept = "; ".join(f"{hint} @ {adapter}" for hint in hints.split("; "))
    return Stream(model, StreamConfig(prompt="a cat", steps=steps, keep_shape=kept))


@pytest.mark.parametrize(("steps", "frame_buffer"), [(1, 1), (3, 1), (2, 2), (4, 2)])
def test_the_batch_gives_the_hints_of_one_frame_after_the_other(adapter: Path, steps: int, frame_buffer: int) -> None:
    stream, frames = stream_of(adapter, steps), scenes(10)
    made: dict[int, torch.Tensor] = {}
    for first in range(0, len(frames), frame_buffer):
        tags = range(first, first + frame_buffer)
        outputs = [stream(frames[first : first + frame_buffer], tags)]
        outputs += stream.flush() if first + frame_buffer == len(frames) else []
        for output in outputs:
            assert output.hint is not None
            if not output.repeated:
                made |= zip(output.tags, output.hint, strict=True)
    assert sorted(made) == list(range(10))
    alone = stream_of(adapter, 1)
    for number, hint in made.items():
        assert torch.equal(hint, drawn(frames[number : number + 1], canny)[0])
        given = alone(frames[number]).hint
        assert given is not None
        assert torch.equal(hint, given[0])
    alone.close()
    stream.close()


def test_of_several_it_is_the_weightiest_and_without_any_there_is_none(adapter: Path) -> None:
    stream, frame = stream_of(adapter, 1, "canny:0.4; sketch:0.9"), scenes(1)
    hint = stream(frame).hint
    assert hint is not None
    assert torch.equal(hint, drawn(frame, sketch))
    stream.configure(StreamConfig(prompt="a cat"))
    assert stream(frame).hint is None
    stream.close()


def test_a_hint_that_is_given_is_the_one_that_is_seen(adapter: Path) -> None:
    stream, given = stream_of(adapter, 2), torch.rand(1, 3, 64, 64)
    hint = stream(scenes(1), hints={"canny": given}).hint
    assert hint is not None
    assert torch.equal(hint, given)
    stream.close()


def test_a_trail_follows_the_slots_through_more_and_fewer_steps() -> None:
    trail: Trail[int] = Trail()
    trail.prime(0, 2)
    assert trail.shown == 0
    seen = []
    for number in range(1, 5):
        trail.tick(number)
        seen.append(trail.shown)
    assert seen == [0, 1, 2, 3]
    trail.resize(4)
    seen = []
    for number in range(5, 10):
        trail.tick(number)
        seen.append(trail.shown)
    assert seen == [3, 3, 4, 5, 6]
    trail.resize(1)
    trail.tick(10)
    assert trail.shown == 10
    trail.clear()
    assert trail.shown is None
