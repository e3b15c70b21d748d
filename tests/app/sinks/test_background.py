"""A sink on its own thread: it may be slow, stuck or broken, and nobody waits for it."""

from __future__ import annotations

import threading

import pytest

from app.frame import Frame
from app.sinks import BackgroundSink, SinkError
from tests.app.fakes import SAFETY_SECONDS, ListSink, picture


def frames(count: int) -> list[Frame]:
    return [Frame(index, 0.0, picture(index)) for index in range(count)]


def test_all_frames_reach_a_sink_that_keeps_up():
    taken = ListSink()
    sink = BackgroundSink(taken, waiting=100)
    sink.open()
    for frame in frames(50):
        sink.write(frame)
    sink.close()
    sink.close()
    assert taken.indices == list(range(50))
    assert (taken.opened, taken.closed) == (1, 1)
    assert (sink.written, sink.dropped) == (50, 0)
    assert sink.name == "list"


def test_a_stuck_sink_makes_nobody_wait_and_its_losses_are_counted():
    go_on, stuck = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        stuck.set()
        assert go_on.wait(SAFETY_SECONDS)

    taken = ListSink(wait)
    sink = BackgroundSink(taken, waiting=3)
    sink.open()
    first, *rest = frames(20)
    sink.write(first)
    assert stuck.wait(SAFETY_SECONDS)
    for frame in rest:
        sink.write(frame)  # returns at once: nobody lets the sink go on before the last
    go_on.set()
    sink.close()
    assert taken.indices == [0, 17, 18, 19]
    assert (sink.written, sink.dropped) == (4, 16)


def test_an_error_reaches_the_next_writer_once():
    failed = threading.Event()

    def fail(index: int) -> None:
        if index == 2:
            failed.set()
            raise SinkError("the disk is full")

    taken = ListSink(fail)
    sink = BackgroundSink(taken)
    sink.open()
    with pytest.raises(SinkError, match="the disk is full"):  # noqa: PT012 - at which write depends on the thread
        for frame in frames(3):
            sink.write(frame)
        assert failed.wait(SAFETY_SECONDS)
        while True:
            sink.write(frames(1)[0])
    sink.write(frames(1)[0])  # it is closed; whoever goes on regardless is not told again
    sink.close()
    assert taken.closed == 1


def test_an_error_in_the_last_frames_comes_with_close():
    def fail(_: int) -> None:
        raise SinkError("the disk is full")

    sink = BackgroundSink(ListSink(fail))
    sink.open()
    sink.write(frames(1)[0])
    with pytest.raises(SinkError, match="the disk is full"):
        sink.close()
    sink.close()


def test_a_sink_that_never_returns_is_left_behind():
    go_on = threading.Event()

    def wait(_: int) -> None:
        assert go_on.wait(SAFETY_SECONDS)

    sink = BackgroundSink(ListSink(wait), finish_seconds=0.05)
    sink.open()
    sink.write(frames(1)[0])
    with pytest.raises(SinkError, match="left behind"):
        sink.close()
    go_on.set()


def test_a_sink_that_cannot_be_opened_starts_nothing():
    before = threading.active_count()
    sink = BackgroundSink(ListSink(fail_open=True))
    with pytest.raises(SinkError):
        sink.open()
    sink.close()
    assert threading.active_count() == before


def test_an_end_makes_nobody_wait_and_is_told_when_it_is_there():
    go_on, told = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        assert go_on.wait(SAFETY_SECONDS)

    taken = ListSink(wait)
    sink = BackgroundSink(taken)
    sink.open()
    for frame in frames(3):
        sink.write(frame)
    sink.end(told.set)
    assert not sink.finished
    go_on.set()
    assert told.wait(SAFETY_SECONDS)
    assert sink.finished
    assert (taken.indices, taken.closed) == ([0, 1, 2], 1)
    told.clear()
    sink.end(told.set)  # nothing is left to wait for
    assert told.is_set()
    sink.close()


def test_what_went_wrong_at_the_end_is_raised_by_close():
    told = threading.Event()

    class Full(ListSink):
        def close(self) -> None:
            super().close()
            raise SinkError("the disk is full")

    sink = BackgroundSink(Full())
    sink.open()
    sink.end(told.set)
    assert told.wait(SAFETY_SECONDS)
    with pytest.raises(SinkError, match="the disk is full"):
        sink.close()


def test_what_the_camera_gave_does_not_wait_with_the_picture():
    taken = ListSink()
    sink = BackgroundSink(taken)
    sink.open()
    original = Frame(0, 0.0, picture(0, 3840, 2160))
    sink.write(Frame(0, 0.0, picture(0), original=original))
    sink.close()
    assert taken.frames[0].original is None


def test_the_last_frame_is_repeated_on_a_clock_while_nothing_comes():
    thrice, again = threading.Event(), threading.Event()
    seen: list[int] = []

    def count(index: int) -> None:
        seen.append(index)
        if seen.count(0) == 3:
            thrice.set()
        if seen.count(1) == 2:
            again.set()

    sink = BackgroundSink(ListSink(count), repeat_seconds=0.005)
    sink.open()
    first, second = frames(2)
    assert not thrice.wait(0.05), "nothing, before there is a picture"
    sink.write(first)
    assert thrice.wait(SAFETY_SECONDS)
    sink.write(second)
    assert again.wait(SAFETY_SECONDS)
    sink.close()
    assert seen == sorted(seen), "and never one before the last"
    assert sink.written == 2


def test_a_sink_that_fails_at_a_repetition_is_told():
    failed = threading.Event()
    calls: list[int] = []

    def fail(index: int) -> None:
        calls.append(index)
        if len(calls) == 2:
            failed.set()
            raise SinkError("the device is gone")

    sink = BackgroundSink(ListSink(fail), repeat_seconds=0.005)
    sink.open()
    sink.write(frames(1)[0])
    assert failed.wait(SAFETY_SECONDS)
    with pytest.raises(SinkError, match="the device is gone"):
        sink.close()
