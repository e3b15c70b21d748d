"""The worker thread: groups, settings between frames, models that come and fail, engines that raise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.engine import Loaded, Loader
from app.frame import Frame
from app.frame_queue import Closed, FrameQueue, Policy
from app.messages import Captured, EndOfSource, Styled
from app.metrics import Metrics
from app.settings import Settings
from app.settings_owner import SettingsOwner
from app.standing import choices_in
from app.status import SessionState, StatusBoard
from app.worker import MOST_FAILURES, STALL_SECONDS, WorkerThread
from pipeline.config import StreamConfig
from tests.app.fakes import FACTS, SAFETY_SECONDS, FakeEngine, loader_of, picture, until


class Unbounded(FrameQueue[Styled | EndOfSource]):
    """Does not follow the source: here nothing is taken before the end."""

    def follow(self, policy: Policy, capacity: int) -> None:
        """Stay as it is."""


class Rig:
    """A worker thread between two queues that are long enough never to block it."""

    def __init__(self, loader: Loader, settings: Settings | None = None, *, once: bool = True) -> None:
        self.inputs: FrameQueue[Captured | EndOfSource] = FrameQueue(Policy.WAIT, 1000)
        self.outputs: FrameQueue[Styled | EndOfSource] = Unbounded(Policy.WAIT, 1000)
        self.settings = settings or Settings()
        self.board = StatusBoard()
        self.metrics = Metrics()
        self.errors: list[Exception] = []
        owner = SettingsOwner(choices_in(self.settings))
        self.thread = WorkerThread(
            self.inputs, self.outputs, owner, loader, self.board, self.metrics, self._fail, once=once
        )

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.board.finish(SessionState.FAILED, str(error), error)
        self.outputs.close()

    def put(self, index: int, *, live: bool = False, epoch: int = 1, size: int = 64, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)
        tensor = torch.full((3, size, size), (index % 251) / 255)
        frame = Frame(index, 0.0, picture(index), tensor)
        self.inputs.put(Captured(frame, self.settings, epoch, live))

    def end(self, *, live: bool = False, epoch: int = 1) -> None:
        self.inputs.put(EndOfSource(epoch, live))

    def run(self) -> list[int]:
        """Start, wait for the end of the thread, and give the indices that came out."""
        self.thread.start()
        self.thread.join(SAFETY_SECONDS)
        assert not self.thread.is_alive()
        return self.taken()

    def taken(self) -> list[int]:
        indices: list[int] = []
        while True:
            try:
                item = self.outputs.get(SAFETY_SECONDS)
            except Closed:
                return indices
            if isinstance(item, EndOfSource):
                indices.append(-item.epoch)
                continue
            assert len(item.frames) == len(item.images)
            for frame, image in zip(item.frames, item.images, strict=True):
                assert frame.tensor is not None
                torch.testing.assert_close(image, 1 - frame.tensor)  # the picture of this very frame
                indices.append(frame.index)


def rig_for(*engines: FakeEngine, **options: object) -> Rig:
    """A rig whose loader hands out these engines."""
    return Rig(loader_of(*engines), **options)  # pyright: ignore[reportArgumentType]


def test_frames_go_through_in_order() -> None:
    rig = rig_for(FakeEngine())
    for index in range(10):
        rig.put(index)
    rig.end()
    assert rig.run() == [*range(10), -1]
    assert not rig.errors
    assert rig.board.model == FACTS
    assert rig.metrics.snapshot().stages_ms["unet"] == 2.0


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("frame_buffer", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
def test_every_file_frame_comes_out_once(steps: int, frame_buffer: int, count: int) -> None:
    rig = rig_for(FakeEngine(), settings=Settings(stream=StreamConfig(steps=steps), frame_buffer=frame_buffer))
    for index in range(count):
        rig.put(index)
    rig.end()
    assert rig.run() == [*range(count), -1]


def test_the_last_group_is_padded_by_repetition() -> None:
    engine = FakeEngine()
    rig = rig_for(engine, settings=Settings(frame_buffer=3))
    for index in range(4):
        rig.put(index)
    rig.end()
    assert rig.run() == [0, 1, 2, 3, -1]
    assert [event for event in engine.events if event[0] == "frames"] == [
        ("frames", (0, 1, 2)),
        ("frames", (3, None, None)),
    ]


CHANGES = st.sampled_from(
    [
        {},
        {},
        {"stream": StreamConfig(steps=1)},
        {"stream": StreamConfig(steps=3, prompt="ink")},
        {"stream": StreamConfig(steps=4, guidance="full")},
        {"stream": StreamConfig(steps=4, strength=0.5)},
        {"frame_buffer": 1},
        {"frame_buffer": 3},
        {"model": "other"},
        {"model": "embedded"},
    ]
)


@hypothesis_settings(deadline=None, max_examples=60)
@given(frames=st.lists(st.tuples(CHANGES, st.sampled_from([64, 72])), max_size=14))
def test_no_change_ever_loses_or_doubles_a_file_frame(frames: list[tuple[dict[str, Any], int]]) -> None:
    rig = rig_for(*(FakeEngine() for _ in range(20)))
    for index, (changes, size) in enumerate(frames):
        rig.put(index, size=size, **changes)
    rig.end()
    assert rig.run() == [*range(len(frames)), -1]
    assert not rig.errors


def test_only_costly_changes_flush_and_nothing_is_asked_without_one() -> None:
    engine = FakeEngine()
    rig = rig_for(engine)
    rig.put(0)
    rig.put(1, stream=StreamConfig(prompt="ink"))  # the frames in flight survive this
    rig.put(2, mirror=True)  # no business of the engine
    rig.put(3, stream=StreamConfig(prompt="ink", steps=2))
    rig.end()
    assert rig.run() == [0, 1, 2, 3, -1]
    asked = [event for event in engine.events if event == "flush" or event[0] == "configure"]
    assert asked == [
        "flush",  # of nothing: the first frame has a size of its own
        ("configure", StreamConfig(prompt="ink")),
        "flush",
        ("configure", StreamConfig(prompt="ink", steps=2)),
        "flush",
    ]


def test_a_live_change_does_not_flush() -> None:
    engine = FakeEngine()
    rig = rig_for(engine)
    rig.put(0, live=True)
    rig.put(1, live=True, stream=StreamConfig(steps=2))
    rig.put(2, live=True, size=72)
    rig.end(live=True)
    rig.run()
    assert engine.events.count("flush") == 1  # the end's


def test_a_new_source_forgets_the_old_ones_frames() -> None:
    engine = FakeEngine()
    rig = rig_for(engine, settings=Settings(stream=StreamConfig(steps=3)))
    in_engine = threading.Event()
    engine.script = lambda call: in_engine.set() if call == 2 else None
    for index in range(3):
        rig.put(index, epoch=1)
    rig.thread.start()
    assert in_engine.wait(SAFETY_SECONDS)
    rig.board.begin_source("Opening another")
    for index in range(100, 105):
        rig.put(index, epoch=2)
    rig.end(epoch=2)
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [0, 100, 101, 102, 103, 104, -2]  # 1 and 2 were in flight
    assert "reset" in engine.events


def test_nothing_of_an_old_source_reaches_the_engine_or_ends_the_thread() -> None:
    engine = FakeEngine()
    rig = rig_for(engine)
    rig.board.begin_source("Opening another")
    rig.put(0, epoch=1)
    rig.end(epoch=1)
    rig.put(100, epoch=2)
    rig.end(epoch=2)
    assert rig.run() == [100, -2]
    assert engine.calls == 1
    assert rig.metrics.snapshot().frames_dropped == 1


def test_a_picture_that_the_engine_is_at_while_another_source_is_asked_for_is_not_sent() -> None:
    def replace_source(call: int) -> None:
        if call == 0:
            rig.board.begin_source("Opening another")

    rig = rig_for(FakeEngine(script=replace_source))
    rig.put(0, epoch=1)
    rig.end(epoch=1)
    rig.put(100, epoch=2)
    rig.end(epoch=2)
    assert rig.run() == [100, -2]


# -- models -----------------------------------------------------------------------------------------------------------


def test_the_old_model_serves_until_the_new_one_is_there() -> None:
    old, new = FakeEngine(), FakeEngine()
    may_load = threading.Event()
    loading = threading.Event()

    def load(settings: Settings, *_: object) -> Loaded:
        if settings.model == "embedded":
            return Loaded(old, FACTS)
        loading.set()
        may_load.wait(SAFETY_SECONDS)
        return Loaded(new, replace(FACTS, name="new"), ("a note",))

    rig = Rig(load)
    rig.thread.start()
    rig.put(0)
    rig.put(1, model="new")
    assert loading.wait(SAFETY_SECONDS)
    rig.put(2)
    until(lambda: ("frames", (2,)) in old.events)
    may_load.set()
    rig.board.wait(lambda _: not rig.thread._models.loading, SAFETY_SECONDS)
    rig.put(3)
    rig.end()
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [0, 1, 2, 3, -1]
    assert ("frames", (3,)) in new.events
    assert rig.board.model is not None
    assert rig.board.model.name == "new"
    assert [notice.message for notice in rig.board.notices] == ["a note"]


def test_a_model_that_cannot_be_loaded_leaves_the_old_one() -> None:
    loads: list[str] = []

    def load(settings: Settings, *_: object) -> Loaded:
        loads.append(settings.model)
        if settings.model != "embedded":
            raise ValueError("there is no such model")
        return Loaded(FakeEngine(), FACTS)

    rig = Rig(load)
    rig.thread.start()
    rig.put(0, model="nowhere")
    until(lambda: loads == ["embedded", "nowhere"])
    rig.board.wait(lambda _: not rig.thread._models.loading, SAFETY_SECONDS)
    for index in range(1, 4):
        rig.put(index)
    rig.end()
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [0, 1, 2, 3, -1]
    assert loads == ["embedded", "nowhere"]  # not tried again with every frame
    assert "there is no such model" in rig.board.notices[0].message


def test_a_first_model_that_cannot_be_loaded_fails_the_session() -> None:
    error = ValueError("there is no such model")

    def load(*_: object) -> Loaded:
        raise error

    rig = Rig(load)
    assert rig.run() == []
    assert rig.errors == [error]


def test_the_end_need_not_wait_for_a_model() -> None:
    release = threading.Event()

    def load(*_: object) -> Loaded:
        release.wait(SAFETY_SECONDS)
        return Loaded(FakeEngine(), FACTS)

    rig = Rig(load)
    rig.thread.start()
    rig.board.finish(SessionState.STOPPED)
    rig.thread.join(SAFETY_SECONDS)
    assert not rig.thread.is_alive()
    release.set()


# -- engines that raise -----------------------------------------------------------------------------------------------


def failing_at(*calls: int) -> Callable[[int], None]:
    """A script that raises at these calls."""

    def script(call: int) -> None:
        if call in calls:
            raise RuntimeError("the driver is gone")

    return script


def test_a_live_engine_is_reset_and_goes_on() -> None:
    engine = FakeEngine(script=failing_at(1, 2, 4, 5))
    rig = rig_for(engine)
    for index in range(8):
        rig.put(index, live=True)
    rig.end(live=True)
    assert rig.run() == [0, 3, 6, 7, -1]
    assert not rig.errors
    assert [notice.message for notice in rig.board.notices] == [
        "A frame was lost, the engine starts over: the driver is gone"
    ] * 4
    assert rig.metrics.snapshot().frames_dropped == 4
    assert engine.events.count("reset") == 1 + 4


def test_a_live_engine_fails_for_good_after_some_failures_in_a_row() -> None:
    rig = rig_for(FakeEngine(script=failing_at(1, 2, 3)))
    for index in range(8):
        rig.put(index, live=True)
    assert rig.run() == [0]
    assert len(rig.errors) == 1
    assert len(rig.board.notices) == MOST_FAILURES - 1


def test_a_file_fails_at_once_with_what_came_before() -> None:
    rig = rig_for(FakeEngine(script=failing_at(3)))
    for index in range(8):
        rig.put(index)
    rig.end()
    assert rig.run() == [0, 1, 2]
    assert [str(error) for error in rig.errors] == ["the driver is gone"]


@pytest.mark.parametrize("method", ["configure", "reset", "flush", "stages_ms"])
@pytest.mark.parametrize("live", [True, False])
def test_whatever_of_the_engine_raises_nothing_hangs(method: str, live: bool) -> None:
    engine = FakeEngine()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    setattr(engine, method, broken)
    rig = rig_for(engine)
    for index in range(4):
        rig.put(index, live=live, stream=StreamConfig(prompt=str(index)))
    rig.end(live=live)
    out = rig.run()
    assert rig.errors or out[-1] == -1  # a failure, or the end: one of both is always told
    assert rig.errors or rig.board.notices


# -- sources that stall -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("frame_buffer", [1, 2])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_frames_in_flight_come_out_while_a_live_source_stalls(steps: int, frame_buffer: int, count: int) -> None:
    engine = FakeEngine()
    rig = rig_for(engine, settings=Settings(stream=StreamConfig(steps=steps), frame_buffer=frame_buffer))
    rig.thread.start()
    for index in range(count):
        rig.put(index, live=True)
    found: list[int] = []
    while len(found) < count:  # nothing else comes in meanwhile
        item = rig.outputs.get(SAFETY_SECONDS)
        assert isinstance(item, Styled)
        found += [frame.index for frame in item.frames]
    assert found == list(range(count))
    assert "flush" not in engine.events, "what comes next does not start anew"
    events = len(engine.events)
    for index in range(100, 106):
        rig.put(index, live=True)
    rig.end(live=True)
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [*range(100, 106), -1]
    assert "reset" not in engine.events[events:]


def test_a_file_that_is_slow_does_not_stall() -> None:
    engine = FakeEngine()
    rig = rig_for(engine, settings=Settings(stream=StreamConfig(steps=2)))
    rig.thread.start()
    for index in range(3):
        rig.put(index)
    until(lambda: ("frames", (2,)) in engine.events)
    time.sleep(2 * STALL_SECONDS)
    rig.end()
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [0, 1, 2, -1]
    assert "idle" not in engine.events


def test_an_engine_that_fails_while_the_source_stalls_goes_on_with_the_next_frame() -> None:
    class Failing(FakeEngine):
        def idle(self) -> None:
            self.events.append("idle")
            raise RuntimeError("the driver is gone")

    engine = Failing()
    rig = rig_for(engine, settings=Settings(stream=StreamConfig(steps=3)))
    rig.thread.start()
    rig.put(0, live=True)
    until(lambda: engine.calls == 1)  # or the next one would take its place in the queue
    rig.put(1, live=True)
    until(lambda: engine.events[-1:] == ["reset"] and "idle" in engine.events)
    rig.put(2, live=True)
    rig.end(live=True)
    rig.thread.join(SAFETY_SECONDS)
    assert rig.taken() == [0, 2, -1]
    assert engine.events.count("idle") == 1
    assert not rig.errors


class FollowedEngine(FakeEngine):
    """Skips every second frame, and shows it with the one before."""

    def __call__(self, frames: torch.Tensor, /, *, tags, at=None, changed=None):
        if self.calls % 2 == 0:
            self.before = tags
            return replace(super().__call__(frames, tags=tags, at=at, changed=changed), repeated=True)
        return replace(super().__call__(frames, tags=self.before, at=at, changed=changed), followers=(tags,))


def test_frames_that_share_a_picture_each_have_it_in_a_file_and_are_not_waited_for_live() -> None:
    for live, expected in ((False, [0, 1, 2, 3, -1]), (True, [0, 2, -1])):
        rig = rig_for(FollowedEngine(StreamConfig(steps=1)))
        for index in range(4):
            rig.put(index, live=live)
        rig.end(live=live)
        rig.thread.start()
        rig.thread.join(SAFETY_SECONDS)
        found: list[int] = []
        numbers: list[int] = []
        while -1 not in found:
            item = rig.outputs.get(SAFETY_SECONDS)
            found += [-1] if isinstance(item, EndOfSource) else [frame.index for frame in item.frames]
            numbers += [] if isinstance(item, EndOfSource) else [item.number]
        assert found == expected
        assert numbers == ([1, 1, 2, 2] if not live else [1, 2])


# -- frames that are skipped ------------------------------------------------------------------------------------------


class SkippingEngine(FakeEngine):
    """Answers every second frame with the last picture."""

    def __call__(self, frames: torch.Tensor, /, *, tags, at=None, changed=None):
        return replace(super().__call__(frames, tags=tags, at=at, changed=changed), skipped=self.calls % 2 == 0)


def test_skipped_frames_are_counted_and_shown() -> None:
    rig = rig_for(SkippingEngine(), settings=Settings(frame_buffer=2))
    for index in range(8):
        rig.put(index)
    rig.end()
    assert rig.run() == [*range(8), -1]
    assert rig.metrics.snapshot().frames_skipped == 4


def test_a_closed_output_ends_the_thread_quietly() -> None:
    rig = rig_for(FakeEngine())
    rig.outputs.close()
    rig.put(0)
    rig.thread.start()
    rig.thread.join(SAFETY_SECONDS)
    assert not rig.thread.is_alive()
    assert not rig.errors


def test_another_source_may_follow_the_end() -> None:
    rig = rig_for(FakeEngine(), once=False)
    rig.thread.start()
    rig.put(0)
    rig.end()

    def two() -> list[int]:
        taken = (rig.outputs.get(SAFETY_SECONDS) for _ in range(2))
        return [-item.epoch if isinstance(item, EndOfSource) else item.frames[0].index for item in taken]

    assert two() == [0, -1]
    rig.board.begin_source("Opening another")
    rig.put(5, epoch=2)
    rig.end(epoch=2)
    assert two() == [5, -2]
    rig.inputs.close()
    rig.thread.join(SAFETY_SECONDS)
    assert not rig.thread.is_alive()
