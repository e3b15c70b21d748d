"""The third thread: from finished tensors to pictures, and out to every sink."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from app.composer import Composer
from app.frame import Frame
from app.frame_queue import Closed, FrameQueue
from app.messages import Captured, EndOfSource, Styled
from app.metrics import Metrics
from app.sinks.base import Sink
from app.status import SessionState, StatusBoard
from app.tensors import ToHost


class DisplayThread(threading.Thread):
    """Brings pictures to the host as (H, W, 3 or 4) uint8, once for all sinks, and hands them to each sink in turn.

    A sink that raises is closed, removed and reported; the others go on. When none is left, the session fails.

    The sinks share this thread, so a slow one delays the others by the time of its ``write``, and for live sources the
    output queue then drops frames instead of letting latency grow. A sink that may block for longer than a frame
    (a network, a virtual camera) should have a thread of its own behind a ``FrameQueue``.

    Args:
        queue: gives ``Styled`` and ``EndOfSource``; what is not of the newest source is dropped.
        board, metrics: where to report.
        fail: called with the exception that ended the thread, if one did.
        sights: gives the frames of live sources as they are captured; made beside ``queue``. None: nothing is carried.
    """

    def __init__(
        self,
        queue: FrameQueue[Styled | EndOfSource],
        board: StatusBoard,
        metrics: Metrics,
        fail: Callable[[Exception], None],
        sights: FrameQueue[Captured] | None = None,
    ) -> None:
        super().__init__(name="vitrail-display", daemon=True)
        self._queue = queue
        self._board = board
        self._metrics = metrics
        self._fail = fail
        self._sights = sights
        self._composer = Composer()
        self._outlets: list[_Outlet] = []
        self._outlets_lock = threading.Lock()
        # What is left to do, each with the outlet that is to blame if it raises. One job at a time, so that an
        # exception costs its own job only and the rest is done after it.
        self._jobs: deque[tuple[_Outlet | None, Callable[[], None]]] = deque()
        self._blamed: _Outlet | None = None
        self._ended = False
        self._to_host = ToHost()

    def add(self, sink: Sink) -> None:
        """Open ``sink`` on the caller's thread and send it every picture from now on. Raises ``SinkError``."""
        sink.open()
        with self._outlets_lock:
            self._outlets.append(_Outlet(sink))

    def remove(self, sink: Sink) -> None:
        """Close ``sink`` on the caller's thread, after the picture that it may be taking, and send it no more.

        Nothing happens if it is not there. Raises ``SinkError`` where its end could not be written.
        """
        for outlet in self._taken_out(sink):
            outlet.close()

    def detach(self, sink: Sink) -> None:
        """Send ``sink`` no more, after the picture that it may be taking; whoever calls finishes it."""
        for outlet in self._taken_out(sink):
            outlet.let_go()

    @property
    def sinks(self) -> list[Sink]:
        """Those that take pictures."""
        return [outlet.sink for outlet in self._snapshot()]

    def run(self) -> None:
        while not self._ended or self._jobs:
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - sinks are anyone's code; what one raises must not reach others
                self._settle(error)

    def _work(self) -> None:
        while self._jobs:
            self._blamed, job = self._jobs.popleft()
            job()
        self._blamed = None
        if self._ended:
            return
        try:
            item = self._queue.get() if self._sights is None else self._queue.get_or(self._sights)
        except Closed:
            self._ended = True
            self._jobs.extend((outlet, outlet.close) for outlet in self._snapshot())
            return
        if isinstance(item, EndOfSource):
            self._board.source(item.epoch, SessionState.ENDED, "The source is at its end")
        elif isinstance(item, Styled):
            self._plan_styled(item)
        elif item.epoch == self._board.epoch:
            carried = self._composer.seen(item, overtaken=lambda: len(self._queue) > 0)
            if carried is not None:
                self._plan(carried, item.epoch, lambda: self._metrics.reprojected(carried.captured_at), lambda: None)

    def _plan_styled(self, styled: Styled) -> None:
        if styled.epoch != self._board.epoch:
            self._metrics.dropped(len(styled.frames))
            return
        for captured, pixels in zip(styled.frames, self._to_host(styled.images, styled.alphas), strict=True):
            frame = self._composer.styled(pixels, captured, styled)
            if frame is None:
                self._metrics.dropped()
            else:
                count = partial(self._count, frame, captured)
                self._plan(frame, styled.epoch, count, self._metrics.dropped)

    def _plan(self, frame: Frame, epoch: int, count: Callable[[], None], lost: Callable[[], None]) -> None:
        """Line up the writing of this picture to every sink, and then ``count``.

        As soon as another source is asked for, sinks that do not have it yet are left out, and ``lost`` takes the
        place of ``count``.
        """

        def one_of(of_now: Callable[[], None], of_the_past: Callable[[], None]) -> Callable[[], None]:
            return lambda: of_now() if epoch == self._board.epoch else of_the_past()

        for outlet in self._snapshot():
            self._jobs.append((outlet, one_of(partial(outlet.write, frame), lambda: None)))
        self._jobs.append((None, one_of(count, lost)))

    def _count(self, frame: Frame, captured: Frame) -> None:
        height, width = frame.pixels.shape[:2]
        self._metrics.shown(captured.captured_at, width, height, frame.captured_at)

    def _settle(self, error: Exception) -> None:
        """After an exception: without its cause, the others go on."""
        outlet = self._blamed
        self._blamed = None
        if outlet is None:
            self._end_session(error)
            return
        with self._outlets_lock:
            self._outlets = [other for other in self._outlets if other is not outlet]
            left = len(self._outlets)
        self._jobs = deque((whose, job) for whose, job in self._jobs if whose is not outlet)
        fatal = not left and not self._ended
        if not fatal:
            self._board.notice(f"{outlet.sink.name} takes no more pictures: {error}", error)
        if not outlet.closing:
            self._jobs.append((outlet, outlet.close))
        if fatal:
            self._end_session(error)

    def _end_session(self, error: Exception) -> None:
        self._ended = True
        self._jobs.extend((outlet, outlet.close) for outlet in self._snapshot())
        self._fail(error)

    def _taken_out(self, sink: Sink) -> list[_Outlet]:
        with self._outlets_lock:
            found = [outlet for outlet in self._outlets if outlet.sink is sink]
            self._outlets = [outlet for outlet in self._outlets if outlet.sink is not sink]
        return found

    def _snapshot(self) -> list[_Outlet]:
        with self._outlets_lock:
            return list(self._outlets)


class _Outlet:
    """A sink in use: one caller at a time, and nothing after its close."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.closing = False
        self._busy = threading.Lock()

    def write(self, frame: Frame) -> None:
        with self._busy:
            if not self.closing:
                self.sink.write(frame)

    def close(self) -> None:
        with self._busy:
            if not self.closing:
                self.closing = True
                self.sink.close()

    def let_go(self) -> None:
        with self._busy:
            self.closing = True
