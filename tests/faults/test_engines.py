"""Engines that raise, hang, give nonsense or run out of memory: what is kept, what is said, and that nothing hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from app.settings import Settings
from app.status import SessionState
from pipeline.config import StreamConfig
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, FakeOutput, FakeSource, ListSink, session_of, until

COUNT = 40


class OutOfMemory(RuntimeError):
    """As PyTorch says it on a card."""

    def __init__(self) -> None:
        super().__init__("CUDA out of memory. Tried to allocate 2.00 GiB")


def at_times(error: Callable[[], Exception], *, every: int = 0, once: int = -1) -> Callable[[int], None]:
    """A script that raises at every ``every``-th call, or at the call ``once``."""

    def script(call: int) -> None:
        if (every and call % every == every - 1) or call == once:
            raise error()

    return script


class Changed(FakeEngine):
    """Gives what ``change`` makes of a picture (N, 3, H, W), from the third call on at every third."""

    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self._change = change

    def __call__(self, frames: torch.Tensor, /, **options: Any) -> Any:
        output = super().__call__(frames, **options)
        if self.calls % 3:
            return output
        image = self._change(output.image)
        return FakeOutput(image, output.tags, output.skipped, output.repeated)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_live_engine_that_fails_now_and_then_goes_on_and_says_so(steps: int) -> None:
    taken = ListSink()
    engine = FakeEngine(script=at_times(lambda: RuntimeError("the driver is gone"), every=7))
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    session = session_of(source, taken, engine=engine, settings=Settings(stream=StreamConfig(steps=steps)), once=False)
    with session:
        until(lambda: engine.calls > 30 and len(taken.frames) > 10)
        assert session.state is SessionState.RUNNING
    said = [notice.message for notice in session.notices]
    assert "A frame was lost, the engine starts over: the driver is gone" in said
    indices = [frame.index for frame in taken.frames]
    assert indices == sorted(indices)


@pytest.mark.parametrize("steps", [1, 4])
def test_memory_that_is_short_once_costs_a_file_no_frame(steps: int) -> None:
    taken = ListSink()
    engine = FakeEngine(script=at_times(OutOfMemory, once=13))
    session = session_of(
        FakeSource(count=COUNT), taken, engine=engine, settings=Settings(stream=StreamConfig(steps=steps))
    )
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert [frame.index for frame in taken.frames] == list(range(COUNT))
    assert any(notice.message for notice in session.notices)


def test_memory_that_is_always_short_ends_a_file_with_a_sentence() -> None:
    taken = ListSink()
    session = session_of(FakeSource(count=COUNT), taken, engine=FakeEngine(script=at_times(OutOfMemory, every=1)))
    session.start()
    status = session.wait(SAFETY_SECONDS)
    assert status.state is SessionState.FAILED
    assert "memory" in status.message
    assert taken.closed == 1


def test_memory_that_is_always_short_lets_a_live_session_wait_and_say_so() -> None:
    taken = ListSink()
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    engine = FakeEngine(script=at_times(OutOfMemory, every=1))
    with session_of(source, taken, engine=engine, once=False) as session:
        until(lambda: any("memory" in notice.message for notice in session.notices))
        assert session.state is not SessionState.FAILED


def test_an_engine_that_hangs_is_left_and_goes_on_where_it_comes_back() -> None:
    release = threading.Event()
    taken = ListSink()

    def script(call: int) -> None:
        if call == 3:
            release.wait(SAFETY_SECONDS)

    engine = FakeEngine(script=script)
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    with session_of(source, taken, engine=engine, once=False) as session:
        until(lambda: engine.calls == 4)
        before = len(taken.frames)
        release.set()
        until(lambda: len(taken.frames) > before + 3)
        assert session.state is SessionState.RUNNING


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_numbers_that_are_none_spoil_their_own_picture_only(value: float) -> None:
    taken = ListSink()
    session = session_of(
        FakeSource(count=9), taken, engine=Changed(lambda image: torch.full_like(image, value)),
        settings=Settings(reprojection="off"),
    )  # fmt: skip
    session.start()
    assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert [frame.index for frame in taken.frames] == list(range(9))
    for frame in taken.frames:
        assert frame.original is not None
        assert frame.pixels.dtype == np.uint8
        if frame.index % 3 == 2:
            assert len(np.unique(frame.pixels)) == 1
        else:
            right = 255 - frame.original.pixels.astype(int)
            assert np.abs(frame.pixels - right).max() <= 1


NONSENSE: dict[str, Callable[[torch.Tensor], Any]] = {
    "half the height": lambda image: image[:, :, ::2],
    "one channel": lambda image: image[:, :1],
    "no batch": lambda image: image[0],
    "empty": lambda image: image[:0],
    "whole numbers": lambda image: (image * 255).to(torch.uint8),
    "float64": lambda image: image.double(),
    "none at all": lambda _: None,
    "text": lambda _: "a picture",
}


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kind", list(NONSENSE))
def test_nonsense_is_shown_or_fails_with_words_and_never_hangs(kind: str, live: bool) -> None:
    taken = ListSink()
    source = FakeSource(count=9 if not live else None, live=live, script=lambda _: time.sleep(0.001))
    session = session_of(source, taken, engine=Changed(NONSENSE[kind]), once=not live)
    session.start()
    if live:
        until(lambda: session.state is SessionState.FAILED or len(taken.frames) > 6)
        session.stop()
    status = session.wait(SAFETY_SECONDS)
    assert status.state in (SessionState.ENDED, SessionState.FAILED, SessionState.STOPPED)
    if status.state is SessionState.FAILED:
        assert status.message
    assert session.running == []
    assert taken.closed == 1
    indices = [frame.index for frame in taken.frames]
    assert indices[:2] == sorted(indices[:2])


def test_tags_that_nobody_gave_fail_with_words() -> None:
    class Forgetful(FakeEngine):
        def __call__(self, frames: torch.Tensor, /, *, tags: Sequence[Any], **options: Any) -> Any:
            output = super().__call__(frames, tags=tags, **options)
            return FakeOutput(output.image, ())

    taken = ListSink()
    session = session_of(FakeSource(count=5), taken, engine=Forgetful())
    session.start()
    status = session.wait(SAFETY_SECONDS)
    assert status.state in (SessionState.ENDED, SessionState.FAILED)
    assert session.running == []
    assert taken.closed == 1
