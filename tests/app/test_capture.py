"""The capture thread: preparing pictures, retrying, replacing, ending."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from app import capture as module
from app.capture import CaptureThread, prepare, retry_delays
from app.feed import Feed, first_frame, silence_of
from app.frame import Frame
from app.frame_queue import FILE, Closed, FrameQueue, Policy
from app.messages import Captured, EndOfSource
from app.metrics import Metrics
from app.settings import Settings
from app.sources.base import SourceError, SourceStalled
from app.sources.pacing import waited_until
from app.sources.testcard import TestCardSource
from app.standing import Standing, choices_in
from app.status import SessionState, Status, StatusBoard
from tests.app.fakes import FACTS, SAFETY_SECONDS, BlockingSource, FakeSource, StubbornSource, raising, until


class Rig:
    """A capture thread with its surroundings; ends it after the test."""

    def __init__(self, source: FakeSource, *, once: bool = False, with_model: bool = True) -> None:
        self.queue: FrameQueue[Captured | EndOfSource] = FrameQueue(*FILE)
        self.settings = Settings()
        self.states: list[SessionState] = []
        self.board = StatusBoard(lambda news: self.states.append(news.state) if isinstance(news, Status) else None)
        self.metrics = Metrics()
        self.errors: list[Exception] = []
        self.failed = threading.Event()
        if with_model:
            self.board.model = FACTS
        self.thread = CaptureThread(
            source,
            self.queue,
            lambda: Standing(choices_in(self.settings)),
            self.board,
            self.metrics,
            self._fail,
            once=once,
        )
        self.thread.start()

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.failed.set()

    def frames_to_end(self) -> list[Captured]:
        frames = []
        while isinstance(item := self.queue.get(SAFETY_SECONDS), Captured):
            frames.append(item)
        return frames

    def next_frame(self) -> Captured:
        item = self.queue.get(SAFETY_SECONDS)
        assert isinstance(item, Captured)
        return item

    def stop(self) -> None:
        self.thread.halt()
        self.queue.close(drain=False)
        self.thread.join(SAFETY_SECONDS)
        assert not self.thread.is_alive()


@pytest.fixture
def rig():
    rigs: list[Rig] = []

    def build(source: FakeSource, **options: bool) -> Rig:
        rigs.append(Rig(source, **options))
        return rigs[-1]

    yield build
    for one in rigs:
        one.stop()


RigMaker = Callable[..., Rig]


# -- prepare ----------------------------------------------------------------------------------------------------------


def halves(width: int, height: int) -> np.ndarray:
    """Black on the left, white on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    return pixels


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(64, 64), (97, 33), (1, 1), (33, 201), (500, 300)])
def test_prepare_gives_the_asked_size_whatever_comes(fit: str, size: tuple[int, int]) -> None:
    tensor = prepare(halves(*size), 72, 64, fit, mirror=False)
    assert tensor.shape == (3, 64, 72)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert 0 <= tensor.min() <= tensor.max() <= 1


def test_prepare_keeps_values_and_channels() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 255, 51
    tensor = prepare(pixels, 64, 64, "crop", mirror=False)
    torch.testing.assert_close(tensor[:, 5, 5], torch.tensor([1.0, 0.2, 0.0]))


def test_prepare_mirrors() -> None:
    plain = prepare(halves(64, 64), 64, 64, "crop", mirror=False)
    mirrored = prepare(halves(64, 64), 64, 64, "crop", mirror=True)
    assert plain[0, 0, 0] == 0
    assert mirrored[0, 0, 0] == 1
    torch.testing.assert_close(mirrored.flip(-1), plain)


def test_crop_cuts_both_sides_alike() -> None:
    tensor = prepare(halves(300, 64), 64, 64, "crop", mirror=False)
    assert tensor[0, :, :32].max() == 0
    assert tensor[0, :, 32:].min() == 1


def test_pad_adds_black_bars_and_keeps_all() -> None:
    tensor = prepare(np.full((32, 128, 3), 255, np.uint8), 64, 64, "pad", mirror=False)
    assert tensor[:, :24].max() == 0
    assert tensor[:, 40:].max() == 0
    assert tensor[:, 24:40].min() == 1


# -- the thread -------------------------------------------------------------------------------------------------------


def test_a_file_comes_whole_and_then_ends(rig: RigMaker) -> None:
    source = FakeSource(count=30)
    one = rig(source, once=True)
    frames = one.frames_to_end()
    assert [item.frame.index for item in frames] == list(range(30))
    assert all(item.frame.tensor is not None and item.frame.tensor.shape == (3, 64, 64) for item in frames)
    assert not any(item.live for item in frames)
    one.thread.join(SAFETY_SECONDS)
    assert not one.thread.is_alive()
    assert source.closed >= 1
    assert one.metrics.snapshot().frames_in == 30
    assert one.metrics.snapshot().frames_dropped == 0


def test_settings_travel_with_the_frame(rig: RigMaker) -> None:
    changed = Settings(width=128, height=64, mirror=True)

    def change(index: int) -> None:
        if index == 3:
            one.settings = changed

    one = rig(FakeSource(count=6, script=change), once=True, with_model=False)
    one.board.model = FACTS
    frames = one.frames_to_end()
    assert [item.settings == changed for item in frames] == [False] * 3 + [True] * 3
    assert [tuple(item.frame.tensor.shape) for item in frames if item.frame.tensor is not None] == (
        [(3, 64, 64)] * 3 + [(3, 64, 128)] * 3
    )


def test_reading_waits_for_the_model(rig: RigMaker) -> None:
    opened = threading.Event()
    source = FakeSource(count=2, on_open=lambda _: opened.set())
    one = rig(source, with_model=False)
    assert opened.wait(SAFETY_SECONDS)
    one.board.wait(lambda status: status.state is SessionState.LOADING, SAFETY_SECONDS)
    assert source.index == 0
    one.board.model = FACTS
    assert len(one.frames_to_end()) == 2


def test_a_live_source_drops_what_is_not_taken(rig: RigMaker) -> None:
    one = rig(FakeSource(count=50, live=True), once=True)
    one.thread.join(SAFETY_SECONDS)
    assert one.queue.policy is Policy.NEWEST_WINS
    # Only the end is left: it took the place of the last frame.
    assert one.frames_to_end() == []
    assert one.metrics.snapshot().frames_in == 50
    assert one.metrics.snapshot().frames_dropped == 50


def test_a_stalled_live_source_is_retried_and_goes_on(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY_SECONDS", 0.004)

    def stall(index: int) -> None:
        if index == 2 and source.opened < 6:
            raise SourceStalled("The camera gives no pictures.")

    source = FakeSource(count=None, live=True, script=stall)
    one = rig(source)
    while one.next_frame().frame.index < 3:
        pass
    assert source.opened == 6
    started = one.states.index(SessionState.STALLED)
    assert SessionState.RUNNING in one.states[started:]
    assert not one.errors


def test_a_live_source_that_cannot_be_opened_is_retried(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.001)

    def unplugged(time: int) -> None:
        if time < 4:
            raise SourceError("There is no camera 0.")

    source = FakeSource(count=None, live=True, on_open=unplugged)
    one = rig(source)
    assert one.next_frame().epoch == 1
    assert source.opened == 4


def test_back_off_doubles_up_to_a_limit() -> None:
    assert list(itertools.islice(retry_delays(), 7)) == [0.25, 0.5, 1, 2, 4, 5, 5]


def test_back_off_starts_anew_after_a_frame(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def delays() -> Iterator[float]:
        for attempt in itertools.count():
            asked.append(attempt)
            yield 0

    def stall(index: int) -> None:
        if source.opened in (1, 2, 3, 5, 6):
            raise SourceStalled("The camera gives no pictures.")
        if source.opened == 4 and index == 2:
            raise SourceStalled("The camera gives no pictures.")

    monkeypatch.setattr(module, "retry_delays", delays)
    source = FakeSource(count=None, live=True, script=stall)
    one = rig(source)
    while source.opened < 7:
        one.next_frame()
    # Three failures in a row, then frames came, then three more: the count began again.
    assert asked == [0, 1, 2, 0, 1, 2]


def test_back_off_can_be_interrupted(rig: RigMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 10 * SAFETY_SECONDS)

    def unplugged(_: int) -> None:
        raise SourceError("There is no camera 0.")

    one = rig(FakeSource(live=True, on_open=unplugged))
    assert one.board.wait(lambda status: status.state is SessionState.STALLED, SAFETY_SECONDS).message
    one.thread.replace(FakeSource(count=1))
    assert one.next_frame().epoch == 2


def test_a_file_that_breaks_off_ends_there_and_says_so(rig: RigMaker) -> None:
    def break_off(index: int) -> None:
        if index == 4:
            raise SourceError("The file is damaged.")

    one = rig(FakeSource(script=break_off), once=True)
    assert [item.frame.index for item in one.frames_to_end()] == [0, 1, 2, 3]
    assert "lost" in one.board.notices[0].message
    assert not one.errors


def test_what_a_file_has_lost_is_said(rig: RigMaker) -> None:
    one = rig(FakeSource(count=2, lost="About 7 frames are lost."), once=True)
    assert len(one.frames_to_end()) == 2
    assert [notice.message for notice in one.board.notices] == ["About 7 frames are lost."]


def test_what_is_lost_of_a_source_without_an_end_is_said_once(rig: RigMaker) -> None:
    one = rig(FakeSource(count=None, live=True, lost="a.png was left out."))
    while one.next_frame().frame.index < 5:
        pass
    assert [notice.message for notice in one.board.notices] == ["a.png was left out."]


@pytest.mark.parametrize("error", [SourceError("Not a video."), ZeroDivisionError("oops")])
@pytest.mark.parametrize("where", ["open", "read"])
def test_a_file_without_a_frame_fails(rig: RigMaker, error: Exception, where: str) -> None:
    def broken(_: int) -> None:
        raise error

    source = FakeSource(on_open=broken) if where == "open" else FakeSource(script=broken)
    one = rig(source, once=True)
    assert one.failed.wait(SAFETY_SECONDS)
    assert one.errors == [error]
    assert source.closed


def test_an_unforeseen_exception_of_a_live_source_is_reported(rig: RigMaker) -> None:
    def broken(_: int) -> None:
        raise ZeroDivisionError("oops")

    one = rig(FakeSource(live=True, script=broken))
    assert one.failed.wait(SAFETY_SECONDS)


def test_a_source_is_replaced_while_it_blocks(rig: RigMaker) -> None:
    first = BlockingSource(count=1, live=True)
    one = rig(first)
    assert one.next_frame().epoch == 1
    one.thread.replace(FakeSource(count=3))
    frames = one.frames_to_end()
    assert [(item.frame.index, item.epoch) for item in frames] == [(0, 2), (1, 2), (2, 2)]
    assert one.queue.policy is Policy.WAIT
    assert first.closed
    assert not one.errors


def test_a_source_is_replaced_while_the_queue_is_full(rig: RigMaker) -> None:
    one = rig(FakeSource(count=None))
    one.board.wait(lambda _: len(one.queue) == FILE[1], 0.2)
    one.thread.replace(FakeSource(count=3))
    frames = one.frames_to_end()
    assert [item.frame.index for item in frames if item.epoch == 2] == [0, 1, 2]


def test_another_source_may_follow_the_end(rig: RigMaker) -> None:
    one = rig(FakeSource(count=2))
    assert len(one.frames_to_end()) == 2
    one.thread.replace(FakeSource(count=3))
    assert len(one.frames_to_end()) == 3


def test_of_many_replacements_the_last_is_served_whole(rig: RigMaker) -> None:
    one = rig(FakeSource(count=None))
    for _ in range(20):
        one.thread.replace(FakeSource(count=None))
    one.thread.replace(FakeSource(count=25))
    frames = one.frames_to_end()
    last = [item.frame.index for item in frames if item.epoch == frames[-1].epoch]
    assert last == list(range(25))


def test_halting_does_not_wait_for_a_source_that_hangs_in_close() -> None:
    source = StubbornSource()
    one = Rig(source)
    one.board.wait(lambda _: source.opened > 0, 0.05)
    one.thread.halt()  # returns although the source's close does not
    source.release.set()
    one.stop()
    assert not one.errors


def test_a_closed_queue_ends_the_thread_quietly(rig: RigMaker) -> None:
    one = rig(FakeSource(count=None))
    one.queue.close(drain=False)
    one.thread.join(SAFETY_SECONDS)
    assert not one.thread.is_alive()
    assert not one.errors
    with pytest.raises(Closed):
        one.queue.get()


# -- sources that hang ------------------------------------------------------------------------------------------------


class HangingSource(FakeSource):
    """Hangs in ``where`` (open or read), where ``close`` cannot reach it, until ``release`` is set."""

    def __init__(self, where: str, *, live: bool = True) -> None:
        super().__init__(count=None, live=live)
        self.where = where
        self.hangs, self.release = threading.Event(), threading.Event()
        self.let_go = threading.Event()

    def hang_in(self, where: str) -> None:
        if where == self.where:
            self.hangs.set()
            assert self.release.wait(SAFETY_SECONDS)

    def open(self) -> None:
        self.hang_in("open")
        super().open()

    def read(self) -> Frame | None:
        self.hang_in("read")
        return super().read()

    def close(self) -> None:
        super().close()
        if self.release.is_set():
            self.let_go.set()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("where", ["open", "read"])
def test_a_source_that_hangs_holds_up_nobody(rig: RigMaker, where: str, live: bool) -> None:
    hanging = HangingSource(where, live=live)
    one = rig(hanging)
    assert hanging.hangs.wait(SAFETY_SECONDS)
    one.thread.replace(FakeSource(count=3))
    frames = one.frames_to_end()  # while the other one hangs
    assert [(item.frame.index, item.epoch) for item in frames] == [(0, 2), (1, 2), (2, 2)]
    assert not hanging.release.is_set()
    assert [feed.source for feed in one.thread.feeds if feed.holds] == [hanging], "it is not let go of yet"
    hanging.release.set()
    assert hanging.let_go.wait(SAFETY_SECONDS)
    until(lambda: not one.thread.feeds)
    assert one.metrics.snapshot().frames_in == 3, "what the old one gives after all is not counted"
    assert not one.errors


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_source_that_hangs_is_said_to_and_goes_on_when_it_can(
    rig: RigMaker, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(module, "FIRST_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", SAFETY_SECONDS)
    hanging = HangingSource(where)
    one = rig(hanging)
    stalled = one.board.wait(lambda status: status.state is SessionState.STALLED, SAFETY_SECONDS)
    assert stalled.message == "fake source does not answer; check the disk, network or device that it comes from."
    assert hanging.opened <= 1, "it is not opened once more while it hangs"
    hanging.release.set()
    assert one.next_frame().epoch == 1
    assert one.board.wait(lambda status: status.state is SessionState.RUNNING, SAFETY_SECONDS)
    assert hanging.opened == 1


def test_to_wait_for_the_clock_is_not_to_be_silent() -> None:
    def prepared(frame: Frame) -> Captured:
        return Captured(frame, Settings(), 1, live=True)

    card = TestCardSource(width=64, height=64, fps=0.001, live=True)
    slow = Feed(card, lambda _: True, prepared, Metrics())
    slow.start()
    assert slow.next(SAFETY_SECONDS) is not None
    until(lambda: waited_until(slow) > time.monotonic())  # for the second picture, a quarter of an hour from now
    assert slow.silent_seconds < 0
    slow.leave()
    slow.join(SAFETY_SECONDS)
    assert not slow.holds
    hanging = HangingSource("read")
    silent = Feed(hanging, lambda _: True, prepared, Metrics())
    silent.start()
    assert hanging.hangs.wait(SAFETY_SECONDS)
    assert silent.silent_seconds >= 0
    silent.leave()
    assert silent.holds
    hanging.release.set()
    silent.join(SAFETY_SECONDS)
    assert not silent.holds


def test_a_source_is_held_until_every_thread_that_closes_it_is_done() -> None:
    """The light of a camera is on until its driver has let go, whichever thread waits for that."""
    closing, lets_go = threading.Event(), threading.Event()

    class Driver(FakeSource):
        def close(self) -> None:
            if threading.current_thread().name == "vitrail-release":
                closing.set()
                assert lets_go.wait(SAFETY_SECONDS)
            else:
                assert closing.wait(SAFETY_SECONDS)  # and it does not wait for the other

    feed = Feed(Driver(count=None, live=True), lambda _: True, lambda frame: frame, Metrics())
    feed.start()
    assert feed.next(SAFETY_SECONDS) is not None
    feed.leave()
    assert closing.wait(SAFETY_SECONDS)
    feed.join(0.2)
    assert feed.holds
    lets_go.set()
    feed.join(SAFETY_SECONDS)
    assert not feed.holds


def test_a_source_may_know_why_it_is_silent() -> None:
    class Talkative(FakeSource):
        def why_silent(self) -> str:
            return "It is raining."

    assert silence_of(Talkative()) == "It is raining."


def test_the_first_frame_alone_is_read_and_the_source_closed() -> None:
    source = FakeSource(count=None)
    frame = first_frame(source)
    assert frame is not None
    assert frame.index == 0
    assert source.closed
    assert first_frame(FakeSource(count=0)) is None
    with pytest.raises(SourceError, match="Not a video"):
        first_frame(FakeSource(script=raising(SourceError("Not a video."), at=0)))


def test_the_source_of_a_first_frame_is_closed_once_and_may_be_opened_again() -> None:
    """A second thread that closes it, and comes late, would close what somebody has opened since."""

    class Counting(FakeSource):
        closers: list[str]

        def close(self) -> None:
            self.closers.append(threading.current_thread().name)
            super().close()

    source = Counting(count=None)
    source.closers = []
    assert first_frame(source) is not None
    assert source.closers == ["vitrail-feed"]
    assert "vitrail-release" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_file_that_hangs_at_its_first_frame_is_refused(where: str) -> None:
    """As on a share that went away: nobody waits for it, and Ctrl-C is not needed."""
    hanging = HangingSource(where, live=False)
    with pytest.raises(SourceError, match="does not answer; check the disk, network or device"):
        first_frame(hanging, patience=0.01)
    hanging.release.set()
    assert hanging.let_go.wait(SAFETY_SECONDS)


def test_an_error_of_close_is_told(rig: RigMaker) -> None:
    class BadClose(FakeSource):
        def close(self) -> None:
            raise ZeroDivisionError("oops")

    one = rig(BadClose(count=1))
    assert len(one.frames_to_end()) == 1
    assert [notice.message for notice in one.board.notices] == ["fake source broke off; what follows is lost: oops"]


def test_what_is_reported_of_an_old_source_is_ignored(rig: RigMaker) -> None:
    one = rig(BlockingSource(count=1, live=True))
    assert one.next_frame().epoch == 1
    one.thread.replace(BlockingSource(count=0, live=True, name="another"))
    assert (one.board.status.state, one.board.status.message) == (SessionState.STARTING, "Opening another")
    one.board.source(1, SessionState.ENDED, "The source is at its end")
    assert one.board.status.state is SessionState.STARTING


def test_a_cut_begins_another_take(rig: RigMaker) -> None:
    one = rig(FakeSource(count=None))
    assert one.next_frame().frame.take == 0
    one.thread.replace(FakeSource(count=1))
    assert one.frames_to_end()[-1].frame.take == 0
    one.thread.replace(FakeSource(count=1), cut=True)
    assert one.frames_to_end()[-1].frame.take == 1
