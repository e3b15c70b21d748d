"""Sources that raise, stall, change their mind or give nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app import capture
from app.frame import Frame
from app.settings import Settings
from app.sources import SourceError
from app.status import SessionState
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, FakeSource, ListSink, session_of, until


class Pictures(FakeSource):
    """Gives what ``make(index)`` makes: a picture, or what is none."""

    def __init__(self, make: Callable[[int], Any], count: int = 6) -> None:
        super().__init__(count=count)
        self._make = make

    def read(self) -> Frame | None:
        frame = super().read()
        return None if frame is None else replace(frame, pixels=self._make(frame.index))


def rgb(*shape: int, dtype: Any = np.uint8, value: float = 77) -> np.ndarray:
    return np.full(shape, value, dtype)


def read_only() -> np.ndarray:
    pixels = rgb(64, 64, 3)
    pixels.setflags(write=False)
    return pixels


USABLE: dict[str, Callable[[int], Any]] = {
    "another size each time": lambda index: rgb(1 + 37 * index, 400 - 60 * index, 3),
    "one pixel": lambda _: rgb(1, 1, 3),
    "very wide": lambda _: rgb(2, 4000, 3),
    "float64": lambda _: rgb(64, 64, 3, dtype=np.float64),
    "not a number": lambda _: rgb(64, 64, 3, dtype=np.float32, value=np.nan),
    "infinite": lambda _: rgb(64, 64, 3, dtype=np.float32, value=np.inf),
    "uint16": lambda _: rgb(64, 64, 3, dtype=np.uint16),
    "read only": lambda _: read_only(),
    "every second pixel": lambda _: rgb(128, 128, 3)[::2, ::2],
    "upside down": lambda _: rgb(64, 64, 3)[::-1],
}
USELESS: dict[str, Callable[[int], Any]] = {
    "grey": lambda _: rgb(64, 64),
    "none": lambda _: None,
    "no height": lambda _: rgb(0, 64, 3),
    "text": lambda _: "a picture",
}


@pytest.mark.parametrize("kind", list(USABLE))
def test_odd_pictures_all_come_out(kind: str) -> None:
    taken = ListSink()
    session = session_of(Pictures(USABLE[kind]), taken, settings=Settings(width=64, height=64))
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert [frame.index for frame in taken.frames] == list(range(6))
    assert {frame.pixels.shape for frame in taken.frames} == {(64, 64, 3)}


@pytest.mark.parametrize("kind", list(USELESS))
def test_what_is_no_picture_fails_with_words_and_never_hangs(kind: str) -> None:
    taken = ListSink()
    session = session_of(Pictures(USELESS[kind]), taken)
    session.start()
    status = session.wait(SAFETY_SECONDS)
    assert status.state is SessionState.FAILED
    assert status.message
    assert session.running == []
    assert taken.closed == 1


@pytest.mark.parametrize("kind", [OSError, ValueError, RuntimeError, MemoryError])
@pytest.mark.parametrize("live", [False, True])
def test_whatever_a_source_raises_is_told_and_of_a_file_all_that_was_read_is_kept(
    kind: type[Exception], live: bool
) -> None:
    error = kind("unplugged")

    def script(index: int) -> None:
        time.sleep(0.02 if live else 0)
        if index == 5:
            raise error

    taken = ListSink()
    session = session_of(FakeSource(count=None, live=live, script=script), taken, once=not live)
    session.start()
    status = session.wait(SAFETY_SECONDS)
    indices = [frame.index for frame in taken.frames]
    if live:
        assert (status.state, status.message) == (SessionState.FAILED, str(error))
        assert indices == sorted(set(indices))
    else:
        assert status.state is SessionState.ENDED
        assert [notice.message for notice in session.notices] == [
            "fake source broke off; what follows is lost: unplugged"
        ]
        assert indices == [0, 1, 2, 3, 4]
    assert taken.closed == 1


def test_a_live_source_that_breaks_off_once_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "FIRST_RETRY_SECONDS", 0.01)

    def script(index: int) -> None:
        time.sleep(0.002)
        if index == 5 and source.opened == 1:
            raise SourceError("the cable was loose")

    taken = ListSink()
    source = FakeSource(count=None, live=True, script=script)
    with session_of(source, taken, once=False) as session:
        until(lambda: source.opened >= 2 and any(frame.index > 8 for frame in taken.frames))
        assert session.state is SessionState.RUNNING


def test_a_clock_that_jumps_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the wall, which people and servers set; frames are timed by one that nobody can set."""
    jumps = iter([0.0, -3600.0, 86_400.0, -86_400.0] * 100_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    taken = ListSink()
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    with session_of(source, taken, once=False) as session:
        until(lambda: len(taken.frames) > 20)
        counts = session.metrics()
        assert 0 <= counts.recent_latency_ms < 1000 * SAFETY_SECONDS


def test_hundreds_of_swaps_close_every_source_that_was_opened() -> None:
    taken = ListSink()
    sources = [FakeSource(count=None, live=True, script=lambda _: time.sleep(0.001)) for _ in range(300)]
    with session_of(sources[0], taken, engine=FakeEngine(), once=False) as session:
        for number, source in enumerate(sources[1:]):
            session.set_source(source)
            if number % 50 == 0:
                until(lambda source=source: source.index > 2)
        until(lambda: sources[-1].index > 2)
        before = len(taken.frames)
        until(lambda: len(taken.frames) > before + 2)
        assert session.state is SessionState.RUNNING
    assert session.running == []
    assert sum(source.opened > 0 for source in sources) > 5
    assert all(source.closed >= source.opened for source in sources)
