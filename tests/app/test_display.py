"""The display thread: pictures to every sink, and sinks that fail or come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from app.display import DisplayThread
from app.frame import Frame
from app.frame_queue import FILE, FrameQueue
from app.messages import EndOfSource, Styled
from app.metrics import Metrics
from app.settings import Settings
from app.sinks.base import SinkError
from app.status import SessionState, StatusBoard
from tests.app.fakes import SAFETY_SECONDS, ListSink, picture, until


class Rig:
    """A display thread with its surroundings."""

    def __init__(self) -> None:
        self.queue: FrameQueue[Styled | EndOfSource] = FrameQueue(*FILE)
        self.board = StatusBoard()
        self.metrics = Metrics()
        self.errors: list[Exception] = []
        self.thread = DisplayThread(self.queue, self.board, self.metrics, self._fail)

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.queue.close()

    def send(self, *indices: int, epoch: int = 1) -> None:
        """One engine call's worth of pictures."""
        frames = tuple(Frame(index, 0.0, picture(index), media_time=index / 10) for index in indices)
        images = torch.stack([torch.full((3, 8, 16), index / 255) for index in indices])
        self.queue.put(Styled(images, frames, indices[0], epoch), SAFETY_SECONDS)

    def show(self, number: int, *indices: int) -> None:
        """Pictures by their number for frames; each place of a group has a brightness of its own."""
        frames = tuple(Frame(index, 0.0, picture(index), media_time=index / 10) for index in indices)
        images = torch.stack([torch.full((3, 8, 16), (10 * number + place) / 255) for place in range(len(indices))])
        self.queue.put(Styled(images, frames, number, epoch=1), SAFETY_SECONDS)

    def finish(self) -> None:
        self.queue.close()
        self.thread.join(SAFETY_SECONDS)
        assert not self.thread.is_alive()


@pytest.fixture
def rig() -> Iterator[Rig]:
    one = Rig()
    yield one
    if one.thread.is_alive():
        one.finish()


def raise_at(wanted: int, error: Exception):
    """A script that raises at one frame."""

    def script(index: int) -> None:
        if index == wanted:
            raise error

    return script


def test_pictures_come_as_uint8_with_their_original(rig: Rig) -> None:
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    rig.send(10, 11)
    rig.send(200)
    rig.finish()
    assert sink.indices == [10, 11, 200]
    frame = sink.frames[1]
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.shape == (8, 16, 3)
    assert (frame.pixels == 11).all()
    assert frame.media_time == pytest.approx(1.1)
    assert frame.original is not None
    assert (frame.original.pixels == 11).all()
    assert sink.closed == 1
    snapshot = rig.metrics.snapshot()
    assert (snapshot.frames_out, snapshot.width, snapshot.height) == (3, 16, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_clipped_and_rounded_in_every_dtype(rig: Rig, dtype: torch.dtype) -> None:
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    image = torch.tensor([-0.5, 0.0, 0.5, 1.0, 1.5]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5).to(dtype)
    rig.queue.put(Styled(image, (Frame(0, 0.0, picture(0)),), 0, epoch=1))
    rig.finish()
    assert sink.frames[0].pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_end_is_reported_after_the_last_picture(rig: Rig) -> None:
    seen: list[SessionState] = []
    rig.thread.add(ListSink(script=lambda _: seen.append(rig.board.status.state)))
    rig.thread.start()
    rig.send(1)
    rig.queue.put(EndOfSource(1, live=False))
    rig.finish()
    assert seen == [SessionState.STARTING]
    assert rig.board.status.state is SessionState.ENDED


@pytest.mark.parametrize("error", [SinkError("The disk is full."), ZeroDivisionError("oops")])
@pytest.mark.parametrize("place", [0, 1])
def test_a_failing_sink_is_removed_and_the_others_go_on(rig: Rig, error: Exception, place: int) -> None:
    bad, good = ListSink(raise_at(2, error), name="bad"), ListSink(name="good")
    for sink in (bad, good) if place == 0 else (good, bad):
        rig.thread.add(sink)
    rig.thread.start()
    rig.send(1, 2, 3)
    rig.send(4)
    rig.finish()
    assert bad.indices == [1]
    assert bad.closed == 1
    assert good.indices == [1, 2, 3, 4]
    assert good.closed == 1
    assert [notice.error for notice in rig.board.notices] == [error]
    assert "bad" in rig.board.notices[0].message
    assert not rig.errors


def test_the_session_fails_with_its_last_sink(rig: Rig) -> None:
    error = SinkError("The disk is full.")
    sink = ListSink(raise_at(2, error))
    rig.thread.add(sink)
    rig.thread.start()
    rig.send(1, 2, 3)
    rig.thread.join(SAFETY_SECONDS)
    assert rig.errors == [error]
    assert sink.closed == 1


def test_an_error_of_the_thread_itself_finishes_the_sinks(rig: Rig) -> None:
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    rig.queue.put(Styled(torch.zeros(1, 2, 3), (Frame(0, 0.0, picture(0)),), 0, epoch=1))  # no picture has that shape
    rig.thread.join(SAFETY_SECONDS)
    assert len(rig.errors) == 1
    assert sink.closed == 1


class BadClose(ListSink):
    """Cannot write its end."""

    def close(self) -> None:
        super().close()
        raise SinkError("The end could not be written.")


def test_a_close_that_fails_is_reported_and_the_others_are_closed(rig: Rig) -> None:
    bad, good = BadClose(name="bad"), ListSink()
    rig.thread.add(bad)
    rig.thread.add(good)
    rig.thread.start()
    rig.send(1)
    rig.finish()
    assert good.closed == bad.closed == 1
    assert "The end could not be written" in rig.board.notices[0].message


def test_sinks_come_and_go_while_running(rig: Rig) -> None:
    first, second = ListSink(), ListSink()
    rig.thread.add(first)
    rig.thread.start()
    seen = threading.Event()
    marker = ListSink(script=lambda index: seen.set() if index == 1 else None)
    rig.thread.add(marker)
    rig.send(1)
    assert seen.wait(SAFETY_SECONDS)
    rig.thread.remove(first)
    rig.thread.add(second)
    rig.send(2)
    rig.finish()
    assert first.indices == [1]
    assert first.closed == 1
    assert second.indices == [2]


def test_remove_waits_for_the_picture_being_written(rig: Rig) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        writing.set()
        go_on.wait(SAFETY_SECONDS)

    sink = ListSink(slow)
    rig.thread.add(sink)
    rig.thread.start()
    rig.send(1)
    assert writing.wait(SAFETY_SECONDS)
    remover = threading.Thread(target=rig.thread.remove, args=(sink,))
    remover.start()
    assert sink.closed == 0
    go_on.set()
    remover.join(SAFETY_SECONDS)
    assert sink.closed == 1
    assert sink.indices == [1]
    rig.thread.remove(sink)  # a second time is no error
    assert sink.closed == 1


def test_a_sink_that_cannot_be_opened_is_the_callers_to_know(rig: Rig) -> None:
    with pytest.raises(SinkError):
        rig.thread.add(ListSink(fail_open=True))
    rig.thread.start()
    rig.finish()


def test_pictures_that_are_shown_again_are_those_of_their_number_and_place(rig: Rig) -> None:
    """Not simply the last ones: between the two, newer pictures may have made room."""
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    rig.show(0, 0, 1)
    rig.show(0, 2, 3)
    rig.show(2, 6, 7)  # those of number 1 were displaced
    rig.show(2, 8, 9)
    rig.finish()
    assert sink.indices == [0, 1, 2, 3, 6, 7, 8, 9]
    assert [int(frame.pixels[0, 0, 0]) for frame in sink.frames] == [0, 1, 0, 1, 20, 21, 20, 21]


def test_the_memory_of_a_steady_picture_takes_the_same_picture_in_once(rig: Rig) -> None:
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    steady = Settings(steadiness=1.0)
    tensor = torch.full((3, 64, 64), 0.5)
    for index, number in enumerate((0, 1, 1, 1)):
        frame = Frame(index, index / 30, picture(index), tensor)
        rig.queue.put(Styled(torch.full((1, 3, 64, 64), number / 2), (frame,), number, 1, steady), SAFETY_SECONDS)
    rig.finish()
    first, second, *again = [int(frame.pixels[0, 0, 0]) for frame in sink.frames]
    assert first < second < 128, "mixed with the one before"
    assert again == [second, second]


def test_nothing_of_an_old_source_is_shown_and_its_end_ends_nothing(rig: Rig) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(index: int) -> None:
        if index == 0:
            writing.set()
            assert go_on.wait(SAFETY_SECONDS)

    first, second = ListSink(slow), ListSink()
    rig.thread.add(first)
    rig.thread.add(second)
    rig.thread.start()
    rig.send(0, 1)
    assert writing.wait(SAFETY_SECONDS)
    rig.send(2)
    rig.queue.put(EndOfSource(1, live=False))
    rig.board.begin_source("Opening another")  # while picture 0 is on its way into the first sink
    go_on.set()
    rig.send(7, epoch=2)
    rig.finish()
    assert first.indices == [0, 7]
    assert second.indices == [7]
    assert rig.board.status.state is SessionState.STARTING
    snapshot = rig.metrics.snapshot()
    assert (snapshot.frames_out, snapshot.frames_dropped) == (1, 3)


def test_a_steady_picture_takes_nothing_over_from_another_source(rig: Rig) -> None:
    sink = ListSink()
    rig.thread.add(sink)
    rig.thread.start()
    steady = Settings(steadiness=1.0)
    tensor = torch.full((3, 64, 64), 0.5)
    for index, epoch in enumerate((1, 2)):
        if epoch == 2:
            until(lambda: len(sink.frames) == 1)
            rig.board.begin_source("Opening another")
        frame = Frame(0, index / 30, picture(index), tensor)
        images = torch.full((1, 3, 64, 64), float(index))
        rig.queue.put(Styled(images, (frame,), index, epoch, steady), SAFETY_SECONDS)
    rig.finish()
    assert [int(frame.pixels[0, 0, 0]) for frame in sink.frames] == [0, 255]
