"""How sessions end: stopped at any moment, or by what breaks in any thread."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from app.engine import Loaded
from app.session import STOP_SECONDS, Session
from app.settings import Settings
from app.sources.base import SourceError
from app.status import SessionState
from pipeline.config import StreamConfig
from tests.app.fakes import (
    FACTS,
    SAFETY_SECONDS,
    BlockingSource,
    FakeEngine,
    FakeSource,
    ListSink,
    StubbornSource,
    in_order,
    no_script,
    raising,
    session_of,
    sleep_for,
    until,
)

# What `stop` may take over its own limit before this machine must be called broken rather than busy.
LENIENCE_SECONDS = 3.0


def stop_in_time(session: Session, *, all_ended: bool = True) -> None:
    """Stop, and check that it took no longer than it may."""
    started = time.monotonic()
    ended = session.stop()
    assert time.monotonic() - started < STOP_SECONDS + LENIENCE_SECONDS
    assert ended == all_ended
    assert bool(session.running) != all_ended


def test_stop_before_start_finishes_the_sinks() -> None:
    taken = ListSink()
    session = session_of(FakeSource(), taken)
    stop_in_time(session)
    assert taken.closed == 1
    assert session.state is SessionState.STOPPED
    assert session.report() is None  # there was no model to report on


def test_stop_twice_is_no_error() -> None:
    session = session_of(FakeSource(count=None), ListSink())
    session.start()
    stop_in_time(session)
    stop_in_time(session)


@pytest.mark.parametrize("seed", range(25))
def test_stop_at_any_moment(seed: int) -> None:
    rng = random.Random(seed)
    pause = rng.choice([0, 0, 0.001, 0.003])
    taken = ListSink(sleep_for(rng.choice([0, 0.002])))
    source = FakeSource(count=rng.choice([None, 3, 30]), live=rng.random() < 0.5, script=sleep_for(pause))
    session = session_of(
        source,
        taken,
        engine=FakeEngine(script=sleep_for(rng.choice([0, 0.004]))),
        settings=Settings(stream=StreamConfig(steps=rng.choice([1, 4])), frame_buffer=rng.choice([1, 3])),
        once=rng.random() < 0.5,
    )
    session.start()
    time.sleep(rng.choice([0, 0, 0.001, 0.01, 0.03]))
    swaps = rng.random() < 0.3
    if swaps:
        session.set_source(FakeSource(count=None, live=rng.random() < 0.5))
    stop_in_time(session)
    assert taken.closed == 1
    steps_back = sum(not in_order(pair) for pair in itertools.pairwise(taken.frames))
    assert steps_back <= swaps  # in order, and from 0 again only with another source


def test_stop_while_the_source_blocks() -> None:
    taken = ListSink()
    session = session_of(BlockingSource(count=1, live=True), taken)
    session.start()
    until(lambda: taken.indices == [0])
    stop_in_time(session)
    assert taken.closed == 1


def test_stop_while_the_source_hangs_even_in_close() -> None:
    taken = ListSink()
    source = StubbornSource()
    session = session_of(source, taken)
    session.start()
    until(lambda: source.opened == 1)
    stop_in_time(session, all_ended=False)
    assert session.running == ["vitrail-feed"]
    assert taken.closed == 1
    source.release.set()


def test_stop_while_the_model_loads() -> None:
    release = threading.Event()
    taken = ListSink()

    def load(*_: object) -> Loaded:
        release.wait(SAFETY_SECONDS)
        return Loaded(FakeEngine(), FACTS)

    session = Session(FakeSource(), sinks=[taken], loader=load)
    session.start()
    until(lambda: session.state is SessionState.LOADING)
    stop_in_time(session)
    assert taken.closed == 1
    release.set()


def test_stop_while_the_engine_is_busy_still_finishes_the_sinks() -> None:
    busy, release = threading.Event(), threading.Event()

    def work(call: int) -> None:
        if call == 2:
            busy.set()
            release.wait(SAFETY_SECONDS)

    taken = ListSink()
    session = session_of(FakeSource(), taken, engine=FakeEngine(script=work))
    session.start()
    assert busy.wait(SAFETY_SECONDS)
    stop_in_time(session, all_ended=False)
    assert session.running == ["vitrail-worker"]
    assert taken.closed == 1
    release.set()


@pytest.mark.parametrize(
    ("where", "live"),
    # What a file gave before it raised is a film by itself: tests/app/test_capture.py.
    [
        (where, live)
        for where in ("source", "open", "engine", "sink")
        for live in (True, False)
        if where != "source" or live
    ],
)
def test_an_exception_in_any_thread_ends_the_session_cleanly(where: str, live: bool) -> None:
    error = ZeroDivisionError("oops")

    def engine_script(call: int) -> None:
        if where == "engine" and call >= 3:
            raise error

    taken = ListSink(raising(error) if where == "sink" else no_script)
    source = FakeSource(
        count=None,
        live=live,
        script=(raising(error) if where == "source" else sleep_for(0.001)),
        on_open=raising(error, at=1) if where == "open" else no_script,
    )
    session = session_of(source, taken, engine=FakeEngine(script=engine_script), once=False)
    session.start()
    status = session.wait(SAFETY_SECONDS)
    assert status.state is SessionState.FAILED
    assert status.error is error
    assert status.message == "oops"
    assert session.running == []
    assert taken.closed == 1
    if not live and where == "engine":
        assert taken.indices == [0, 1, 2]  # what was done before is written
    stop_in_time(session)
    assert session.state is SessionState.FAILED  # to stop what has failed does not make it good


def test_a_file_that_is_none_fails_with_its_own_words() -> None:
    with session_of(FakeSource(on_open=raising(SourceError("notes.txt is not a video."), at=1)), ListSink()) as session:
        status = session.wait(SAFETY_SECONDS)
    assert (status.state, status.message) == (SessionState.FAILED, "notes.txt is not a video.")


def test_a_model_that_cannot_be_loaded_fails_with_its_own_words() -> None:
    def load(*_: object) -> Loaded:
        raise ValueError("there is no model 'x'")

    taken = ListSink()
    with Session(FakeSource(), sinks=[taken], loader=load) as session:
        status = session.wait(SAFETY_SECONDS)
    assert (status.state, status.message) == (SessionState.FAILED, "there is no model 'x'")
    assert (taken.closed, taken.indices) == (1, [])


def test_wait_gives_up_after_its_timeout() -> None:
    with session_of(FakeSource(count=None, live=True, script=sleep_for(0.001)), ListSink()) as session:
        until(lambda: session.state is SessionState.RUNNING)
        assert session.wait(0.01).state is SessionState.RUNNING
