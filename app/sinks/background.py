"""Any sink on a thread of its own, so that it can be slow without slowing the picture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from app.frame import Frame
from app.frame_queue import Closed, FrameQueue, Policy
from app.sinks.base import Sink, SinkError

WAITING_FRAMES = 16
FINISH_SECONDS = 10.0


class BackgroundSink:
    """Takes frames at once and hands them to ``sink`` on another thread, in order.

    A sink that is too slow misses frames: the oldest that waits makes room for the newest. A sink that fails is
    closed, and the next ``write`` or ``close`` raises its error. What the camera gave (``Frame.original``) is not kept
    with frames that wait: at 4K it is thirty times as large as the picture.

    Args:
        sink: what to protect the others from.
        waiting: how many frames may wait for it, at least 1.
        repeat_seconds: write the last frame once more where none has come for so long; None: never.
        finish_seconds: how long ``close`` waits for the frames still waiting.

    Attributes:
        name: that of ``sink``.
        sink: as given.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        waiting: int = WAITING_FRAMES,
        repeat_seconds: float | None = None,
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self.name = sink.name
        self.sink = sink
        self._waiting = waiting
        self._repeat_seconds = repeat_seconds
        self._finish_seconds = finish_seconds
        self._queue: FrameQueue[Frame] | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._written = 0
        self._guard = threading.Lock()  # of the two below
        self._finished = False
        self._then: Callable[[], None] = lambda: None

    @property
    def finished(self) -> bool:
        """Whether the sink has come to its end, good or bad: ``close`` does not wait any more."""
        return self._finished

    @property
    def written(self) -> int:
        """How many frames the sink has taken, each counted once."""
        return self._written

    @property
    def dropped(self) -> int:
        """How many frames were left out because the sink was too slow."""
        return self._queue.dropped if self._queue is not None else 0

    def open(self) -> None:
        """Open the sink, on the caller's thread. Raises ``SinkError``."""
        self.sink.open()
        self._error = None
        self._written = 0
        self._finished = False
        self._then = lambda: None
        self._queue = FrameQueue(Policy.NEWEST_WINS, self._waiting)
        # A daemon, because a driver that never returns must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, args=(self._queue,), name="vitrail-sink", daemon=True)
        self._thread.start()

    def write(self, frame: Frame) -> None:
        """Line the frame up; never waits. Raises ``SinkError`` where an earlier one could not be written."""
        if self._queue is None or self._queue.closed:
            self._raise_error()
            return
        try:
            self._queue.put(replace(frame, original=None))
        except Closed:  # it failed just now
            self._raise_error()

    def end(self, then: Callable[[], None]) -> None:
        """Take no more frames, and have what waits written and the sink finished on its own thread; never waits.

        Args:
            then: called when that is done, or has failed, mostly on the sink's thread. What ``close`` raises after it
                tells which.
        """
        if self._queue is not None:
            self._queue.close()
        with self._guard:
            over = self._finished or self._thread is None
            if not over:
                self._then = then
        if over:
            then()

    def close(self) -> None:
        """Write what still waits, and finish the sink.

        Raises:
            SinkError: a frame or the end could not be written, or the sink does not finish in time.
        """
        thread, self._thread = self._thread, None
        if self._queue is None or thread is None:
            return
        self._queue.close()
        thread.join(self._finish_seconds)
        if thread.is_alive():
            self._queue.clear()
            raise SinkError(f"{self.name} does not come to an end; it was left behind.")
        self._raise_error()

    def _run(self, queue: FrameQueue[Frame]) -> None:
        try:
            try:
                self._write_all(queue)
            except Closed:
                pass
            finally:
                self.sink.close()
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; whoever writes or closes next is told
            self._error = error
            queue.close(drain=False)
        with self._guard:
            self._finished = True
        self._then()

    def _write_all(self, queue: FrameQueue[Frame]) -> None:
        last = queue.get()
        while True:
            self.sink.write(last)
            self._written += 1
            while True:
                try:
                    last = queue.get(self._repeat_seconds)
                    break
                except TimeoutError:
                    self.sink.write(last)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
