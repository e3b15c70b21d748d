"""Whole sessions with real threads: nothing is lost, nothing hangs, whatever is slow or changes."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from dataclasses import replace

import pytest

from app.engine import Loaded
from app.fetching import Progress
from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sinks.base import SinkError
from app.sources.base import SourceError, SourceStalled
from app.status import Notice, SessionState, Status
from pipeline.config import StreamConfig
from tests.app.fakes import (
    FACTS,
    SAFETY_SECONDS,
    BlockingSource,
    FakeEngine,
    FakeSource,
    ListSink,
    in_order,
    no_script,
    raising,
    session_of,
    sleep_for,
    until,
)

# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "engine", "sink"),
    [(0, 0, 0), (0, 0.002, 0), (0.002, 0, 0), (0, 0, 0.002), (0.001, 0.002, 0.001)],
    ids=["all fast", "slow engine", "slow source", "slow sink", "all slow"],
)
@pytest.mark.parametrize(("steps", "frame_buffer"), [(1, 1), (3, 1), (2, 3)])
def test_no_frame_of_a_file_is_lost(source: float, engine: float, sink: float, steps: int, frame_buffer: int) -> None:
    taken = ListSink(sleep_for(sink) if sink else no_script)
    session = session_of(
        FakeSource(count=50, script=sleep_for(source) if source else no_script),
        taken,
        engine=FakeEngine(script=sleep_for(engine) if engine else no_script),
        settings=Settings(stream=StreamConfig(steps=steps), frame_buffer=frame_buffer),
    )
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert session.running == []
    assert taken.indices == list(range(50))
    assert taken.closed == 1
    assert all((frame.pixels == 255 - frame.index).all() for frame in taken.frames)  # each its own picture
    metrics = session.metrics()
    assert (metrics.frames_in, metrics.frames_out, metrics.frames_dropped) == (50, 50, 0)
    session.stop()


@pytest.mark.parametrize(("steps", "frame_buffer"), [(1, 1), (3, 1), (2, 3)])
def test_every_picture_of_a_file_comes_with_its_own_hint(steps: int, frame_buffer: int) -> None:
    taken = ListSink()
    config = StreamConfig(steps=steps, keep_shape="canny:0.8")
    session = session_of(FakeSource(count=20), taken, settings=Settings(stream=config, frame_buffer=frame_buffer))
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    session.stop()
    assert taken.indices == list(range(20))
    for frame in taken.frames:
        assert frame.hint is not None
        assert frame.hint.shape == (3, 64, 64)
        assert float(frame.hint[0, 0, 0]) == pytest.approx(frame.index / 255 / 2)


def test_without_a_shape_to_keep_no_hint_travels() -> None:
    taken = ListSink()
    session = session_of(FakeSource(count=3), taken)
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    session.stop()
    assert [frame.hint for frame in taken.frames] == [None] * 3


def test_settings_change_between_file_frames_without_loss() -> None:
    rng = random.Random(3)
    taken = ListSink()

    def change(_: int) -> None:
        stream = StreamConfig(prompt=rng.choice("abc"), steps=rng.choice([1, 1, 2, 4]), strength=rng.choice([0.4, 0.8]))
        session.update(Settings(stream=stream, width=rng.choice([0, 72]), frame_buffer=rng.choice([1, 1, 2])))

    session = session_of(FakeSource(count=120, script=change), taken)
    with session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert taken.indices == list(range(120))


def test_an_empty_file_ends_and_finishes_its_sinks() -> None:
    taken = ListSink()
    with session_of(FakeSource(count=0), taken) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert (taken.opened, taken.closed, taken.indices) == (1, 1, [])


# -- live -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reprojection", ["auto", "off"])
def test_a_slow_engine_gets_the_newest_live_frames(reprojection: str) -> None:
    enough = threading.Event()
    taken = ListSink(lambda index: enough.set() if index > 200 else None)
    source = FakeSource(count=None, live=True, script=sleep_for(0.001))
    engine, settings = FakeEngine(script=sleep_for(0.02)), Settings(reprojection=reprojection)
    with session_of(source, taken, engine=engine, settings=settings) as session:
        assert enough.wait(SAFETY_SECONDS)
        metrics = session.metrics()
    assert in_order(taken.frames)
    assert reprojection != "off" or len(set(taken.indices)) == len(taken.indices)
    assert metrics.frames_dropped > metrics.frames_out
    assert metrics.latency_p50_ms > 0


def test_a_slow_live_source_keeps_the_engine_waiting_not_spinning() -> None:
    engine = FakeEngine()
    taken = ListSink()
    with session_of(FakeSource(count=20, live=True, script=sleep_for(0.01)), taken, engine=engine) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    asked = [index for event in engine.events if event[0] == "frames" for index in event[1]]
    assert len(set(asked)) == len(asked) == engine.calls <= 20
    assert {frame.index for frame in taken.frames if not frame.reprojected} <= set(asked)


def test_a_file_that_cannot_be_read_ends_no_session_that_goes_on() -> None:
    """Someone dropped the wrong folder on the window, perhaps while recording."""
    taken = ListSink()
    with session_of(FakeSource(count=None, live=True, script=sleep_for(0.001)), taken, once=False) as session:
        until(lambda: len(taken.frames) > 3)
        session.set_source(FakeSource(on_open=raising(SourceError("The folder has no pictures in it."), at=1)))
        until(lambda: session.state is SessionState.STALLED)
        assert session.status.message == "The folder has no pictures in it."
        session.set_source(FakeSource(count=5))
        until(lambda: session.state is SessionState.ENDED)
    assert taken.indices[-5:] == [0, 1, 2, 3, 4]
    assert taken.closed == 1


def test_a_failed_session_lets_go_of_its_engine() -> None:
    """Whoever starts again, perhaps for want of memory, must not have two of them."""

    def fail(_: int) -> None:
        raise RuntimeError("out of paint")

    engine = FakeEngine(script=fail)
    source = FakeSource(count=None, live=True, script=sleep_for(0.001))
    session = session_of(source, engine=engine)
    gone = weakref.ref(engine)
    del engine
    with session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.FAILED
    assert str(session.status.error) == "out of paint"
    gc.collect()
    assert gone() is None


def test_a_stall_is_reported_and_the_picture_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.capture.FIRST_RETRY_SECONDS", 0.001)
    states: list[SessionState] = []
    back = threading.Event()

    def stall(index: int) -> None:
        if index == 3 and source.opened < 4:
            raise SourceStalled("The camera gives no pictures.")

    source = FakeSource(count=None, live=True, script=stall)
    taken = ListSink(lambda index: back.set() if index > 5 else None)

    def listen(news: Status | Notice) -> None:
        if isinstance(news, Status):
            states.append(news.state)

    with session_of(source, taken, listener=listen):
        assert back.wait(SAFETY_SECONDS)
    assert states.count(SessionState.STALLED) >= 1
    assert states.index(SessionState.STALLED) < len(states) - 1 - states[::-1].index(SessionState.RUNNING)
    assert states[-1] is SessionState.STOPPED


# -- changes while running --------------------------------------------------------------------------------------------


def test_the_source_is_swapped_while_running() -> None:
    taken = ListSink()
    first = FakeSource(count=None, live=True, script=sleep_for(0.001))
    with session_of(first, taken, once=False) as session:
        until(lambda: len(taken.indices) > 3)
        seen = len(taken.indices)
        session.set_source(FakeSource(count=40))
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
        # The whole file, after whatever of the first source was already on its way.
        assert taken.indices[-40:] == list(range(40))
        assert len(taken.indices) >= seen + 40
        session.set_source(FakeSource(count=5))
        until(lambda: taken.indices[-5:] == list(range(5)))
        assert taken.closed == 0
    assert taken.closed == 1
    assert first.closed


def test_nothing_of_an_old_source_is_shown_and_its_end_does_not_end_the_new_one() -> None:
    """The old one is a file read to its end: its pictures and its end still wait behind a slow sink."""
    writing, go_on, opened = threading.Event(), threading.Event(), threading.Event()
    states: list[SessionState] = []

    def slow(index: int) -> None:
        if index == 1:
            writing.set()
            assert go_on.wait(SAFETY_SECONDS)

    def open_slowly(_: int) -> None:
        go_on.set()
        assert opened.wait(SAFETY_SECONDS)

    taken = ListSink(slow)
    session = session_of(FakeSource(count=4), taken, once=False)
    camera = FakeSource(count=None, live=True, script=sleep_for(0.001), on_open=open_slowly)
    camera.index = 100
    with session:
        assert writing.wait(SAFETY_SECONDS)
        session.set_source(camera)
        assert go_on.wait(SAFETY_SECONDS), "the camera is being opened"
        states.append(session.wait(0.2).state)  # long enough for what is wrong to happen
        opened.set()
        until(lambda: len(taken.indices) > 5)
        states.append(session.state)
    assert taken.indices[:2] == [0, 1]
    assert min(taken.indices[2:]) >= 100
    assert states == [SessionState.STARTING, SessionState.RUNNING]


def test_the_end_that_was_is_not_that_of_the_next_source() -> None:
    with session_of(FakeSource(count=1), ListSink(), once=False) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
        session.set_source(BlockingSource(count=0, live=True))
        assert session.state is SessionState.STARTING, "at once"


def test_a_source_that_hangs_is_open_until_it_is_let_go_of() -> None:
    hangs, release = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        hangs.set()
        assert release.wait(SAFETY_SECONDS)

    taken, hanging = ListSink(), FakeSource(count=None, live=True, on_open=hang)
    with session_of(hanging, taken, once=False) as session:
        assert hangs.wait(SAFETY_SECONDS)
        assert session.open_sources == [hanging]
        session.set_source(FakeSource(count=None, live=True, script=sleep_for(0.001)))
        until(lambda: len(taken.frames) > 0)
        assert hanging in session.open_sources
        release.set()
        until(lambda: hanging not in session.open_sources)
    assert session.open_sources == []


def test_the_model_is_swapped_while_running() -> None:
    old, new = FakeEngine(), FakeEngine()

    def load(settings: Settings, *_: object) -> Loaded:
        if settings.model == "embedded":
            return Loaded(old, FACTS)
        return Loaded(new, replace(FACTS, name=settings.model, default_size=72))

    taken = ListSink()
    session = Session(FakeSource(count=None, live=True, script=sleep_for(0.001)), sinks=[taken], loader=load)
    with session:
        until(lambda: old.calls > 2)
        session.set_model("other")
        until(lambda: new.calls > 2 and taken.frames[-1].pixels.shape == (72, 72, 3))
        assert session.model is not None
        assert session.model.name == "other"
        assert session.settings.model == "other"


def test_sinks_are_added_and_removed_while_running() -> None:
    window, recorder = ListSink(), ListSink()
    with session_of(FakeSource(count=None, live=True, script=sleep_for(0.001)), window, once=False) as session:
        session.add_sink(recorder)
        until(lambda: len(recorder.indices) > 2)
        session.remove_sink(recorder)
        written = len(recorder.indices)
        assert recorder.closed == 1
        seen = len(window.indices)
        until(lambda: len(window.indices) > seen + 2)
    assert len(recorder.indices) == written


def test_a_sink_that_cannot_be_opened_finishes_the_others() -> None:
    good = ListSink()
    with pytest.raises(SinkError):
        session_of(FakeSource(), good, ListSink(fail_open=True))
    assert good.closed == 1


# -- the report -------------------------------------------------------------------------------------------------------


def test_the_report_counts_the_session() -> None:
    settings = Settings(stream=StreamConfig(steps=2, solver="ddim"))
    with session_of(FakeSource(count=7), ListSink(), settings=settings) as session:
        session.wait(SAFETY_SECONDS)
        found = session.report()
    assert found is not None
    assert (found["frames_in"], found["frames_out"], found["frames_dropped"]) == (7, 7, 0)
    assert (found["width"], found["height"], found["steps"], found["solver"]) == (64, 64, 2, "ddim")
    assert found["stages_ms"] == {"encode": 1.0, "unet": 2.0, "decode": 3.0}
    assert found["seconds"] > 0
    assert found["latency_ms"]["p95"] >= found["latency_ms"]["p50"] > 0


# -- the end, whatever happens ----------------------------------------------------------------------------------------


# -- before the first model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirror", [False, True])
def test_a_live_source_is_seen_while_the_model_is_loaded(mirror: bool) -> None:
    may_load, seen, taken = threading.Event(), list[Frame](), ListSink()

    def load(settings: Settings, _: Progress) -> Loaded:
        may_load.wait(SAFETY_SECONDS)
        return Loaded(FakeEngine(config=settings.stream), FACTS)

    source = FakeSource(count=None, live=True, script=sleep_for(0.002))
    session = Session(source, Settings(mirror=mirror), [taken], loader=load, preview=seen.append)
    with session:
        until(lambda: len(seen) >= 5)
        assert session.state is SessionState.LOADING
        assert not taken.frames
        assert session.metrics().frames_in == 0  # what is only looked at would count as late, or as dropped
        session.set_source(FakeSource(count=None, live=True, name="another", script=sleep_for(0.002)))
        until(lambda: seen[-1].index < 5 < len(seen))  # the other source, from its beginning
        may_load.set()
        until(lambda: len(taken.frames) >= 3)
        count = len(seen)
        until(lambda: len(taken.frames) >= 6)
        assert len(seen) == count
    assert all(frame.original is None for frame in seen)
    strides = {frame.pixels.strides[1] < 0 for frame in seen}
    assert strides == {mirror}


def test_nothing_of_a_file_is_read_before_the_model_is_there() -> None:
    """Every frame of it is to be styled."""
    may_load, seen, taken = threading.Event(), list[Frame](), ListSink()

    def load(settings: Settings, _: Progress) -> Loaded:
        may_load.wait(SAFETY_SECONDS)
        return Loaded(FakeEngine(config=settings.stream), FACTS)

    source = FakeSource(count=4)
    with Session(source, sinks=[taken], loader=load, once=True, preview=seen.append) as session:
        session.wait(0.1)
        assert source.index == 0
        may_load.set()
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert taken.indices == [0, 1, 2, 3]
    assert seen == []
