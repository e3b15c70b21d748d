"""A device that lags behind: one group under way while the next is asked for, never more, and nothing held back."""

from __future__ import annotations

import pytest
import torch

from app.messages import Styled
from app.tensors import mark, stacked
from pipeline.config import StreamConfig
from tests.app.fakes import SAFETY_SECONDS, FakeEngine
from tests.app.test_worker import Rig, Settings, rig_for


class Lagging:
    """Stands in for a device's event queue: waiting for a call's mark is noted among the engine's calls."""

    def __init__(self, engine: FakeEngine, broken: int | None = None) -> None:
        self.engine = engine
        self.broken = broken
        self.marks = 0

    def __call__(self, _: torch.device) -> object:
        number, self.marks = self.marks, self.marks + 1

        def wait() -> None:
            self.engine.events.append(("done", number))
            if number == self.broken:
                raise RuntimeError("the device gave up")

        return wait


def lagging_rig(monkeypatch: pytest.MonkeyPatch, broken: int | None = None, steps: int = 1) -> tuple[Rig, FakeEngine]:
    engine = FakeEngine(StreamConfig(steps=steps))
    monkeypatch.setattr("app.worker.mark", Lagging(engine, broken))
    return rig_for(engine, settings=Settings(stream=StreamConfig(steps=steps))), engine


def test_the_next_group_is_asked_for_before_the_last_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, engine = lagging_rig(monkeypatch)
    for index in range(3):
        rig.put(index)
    rig.end()
    assert rig.run() == [0, 1, 2, -1]
    happened = [event for event in engine.events if isinstance(event, tuple) and event[0] in ("frames", "done")]
    assert happened == [
        ("frames", (0,)),
        ("frames", (1,)),
        ("done", 0),
        ("frames", (2,)),
        ("done", 1),
        ("done", 2),
    ]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_picture_does_not_wait_for_the_next_frame(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    rig, _ = lagging_rig(monkeypatch, steps=steps)
    rig.thread.start()
    rig.put(0, live=True)
    styled = rig.outputs.get(SAFETY_SECONDS)  # though no other frame comes
    assert isinstance(styled, Styled)
    assert styled.frames[0].index == 0
    rig.inputs.close()
    rig.thread.join(SAFETY_SECONDS)
    assert not rig.thread.is_alive()


def test_what_is_under_way_of_an_old_source_is_waited_for_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, engine = lagging_rig(monkeypatch)

    def replace_source(call: int) -> None:
        if call == 0:
            rig.board.begin_source("Opening another")

    engine.script = replace_source
    rig.put(0)
    rig.put(5, epoch=2)
    rig.end(epoch=2)
    assert rig.run() == [5, -2]
    assert engine.events.index(("done", 0)) < engine.events.index(("frames", (5,)))


def test_a_device_that_fails_costs_its_own_live_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, _ = lagging_rig(monkeypatch, broken=1)
    for index in range(4):
        rig.put(index, live=True)
    rig.end(live=True)
    taken = rig.run()
    assert 1 not in taken
    assert {0, 3, -1} <= set(taken)
    assert not rig.errors


def test_the_cpu_never_lags() -> None:
    assert mark(torch.device("cpu")) is None


def test_the_last_frame_fills_the_places_that_are_left() -> None:
    frames = [torch.rand(3, 4, 5) for _ in range(2)]
    torch.testing.assert_close(stacked(frames, 3), torch.stack([*frames, frames[-1]]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_frames_for_cuda_are_pinned_and_waited_for() -> None:
    frames = [torch.rand(3, 4, 5) for _ in range(2)]
    together = stacked(frames, 2, "cuda:0")
    assert together.is_pinned()
    there = together.to("cuda", non_blocking=True)
    done = mark(there.device)
    assert done is not None
    done()
    torch.testing.assert_close(there.cpu(), torch.stack(frames))
