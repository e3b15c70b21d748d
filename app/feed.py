"""A source on a thread of its own, so that whatever it hangs in holds up nobody else."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from app.frame import Frame
from app.frame_queue import LIVE, Closed, FrameQueue, Policy
from app.metrics import Metrics
from app.sources.base import Diagnosed, Source, SourceError
from app.sources.pacing import waited_until

# A live source that is at one call for so long has stalled. Devices take their time to open and to give a first
# picture, and a file, of which every frame counts, may be slow.
PATIENCE_SECONDS = 2.0
FIRST_PATIENCE_SECONDS = 10.0

_STEP = (Policy.WAIT, 1)  # of a file

T = TypeVar("T")


class Feed(threading.Thread, Generic[T]):
    """One attempt at a source: opens it, prepares each frame up to its end or first error, and closes it.

    All of it happens on this thread.

    A driver may block for seconds, and a share that went away or a named pipe for ever, in a call that nothing can
    interrupt. Then this thread is left behind: it closes the source as soon as the call returns, and ends with the
    process where it never does. It is the one thread that opens and reads the source.

    Of a live source only the newest frame waits to be taken; a file waits until its frame is.

    Args:
        source: used by nobody else meanwhile.
        may_read: called between opening and reading; sleeps until frames are of use. False: they never will be.
        prepared: makes of a frame what is handed on, as soon as it is read: with the settings of that moment.
        metrics: counts what is read, and what nobody has taken.
        preview: of a live source, is shown frames until they are of use; it says whether it goes on with that. None:
            the source is not read before.
    """

    def __init__(
        self,
        source: Source,
        may_read: Callable[[Feed[T]], bool],
        prepared: Callable[[Frame], T],
        metrics: Metrics,
        preview: Callable[[Frame], bool] | None = None,
    ) -> None:
        super().__init__(name="vitrail-feed", daemon=True)
        self.source = source
        self._may_read = may_read
        self._prepared = prepared
        self._metrics = metrics
        self._preview = preview if source.live else None
        self._items: FrameQueue[T | _End] = FrameQueue(*(LIVE if source.live else _STEP))
        self._left = threading.Event()
        self._released = threading.Event()
        self._lock = threading.Lock()  # of the next line
        self._release: threading.Thread | None = None  # closes the source beside, where it was left
        self._began = time.monotonic()  # the call into the source that is under way; infinity between two

    @property
    def left(self) -> bool:
        """Whether nobody takes its frames any more."""
        return self._left.is_set()

    @property
    def holds(self) -> bool:
        """Whether the source is being opened, is open, or is not let go of yet."""
        return not self._released.is_set()

    @property
    def silent_seconds(self) -> float:
        """For how long the source has been at one call, its waits for the clock not counted; below 0 between two."""
        return time.monotonic() - max(self._began, waited_until(self))

    def next(self, timeout: float | None) -> T | None:
        """The next frame; None at the end, and after ``leave``.

        Raises:
            TimeoutError: none came for ``timeout`` seconds.
            Exception: whatever the source has raised, which ended it.
        """
        try:
            item = self._items.get(timeout)
        except Closed:
            return None
        if not isinstance(item, _End):
            return item
        if item.error is not None:
            raise item.error
        return None

    def leave(self) -> None:
        """Take no more frames. Never waits: the source is closed beside, as soon as it lets itself be closed."""
        self._left.set()
        self._items.close(drain=False)
        if self.holds:  # and a driver may hang in close as well as in read
            release = threading.Thread(target=self._interrupt, name="vitrail-release", daemon=True)
            with self._lock:
                release.start()
                self._release = release

    def end(self, patience: float) -> None:
        """As ``leave``, and wait up to ``patience`` seconds until the source is closed: it may then be opened again.

        Only after that time is it closed beside, so that nobody closes it who comes late.
        """
        self._left.set()
        self._items.close(drain=False)
        self.join(patience)
        self.leave()

    def run(self) -> None:
        error: Exception | None = None
        try:
            self._read()
        except Closed:
            pass  # left while a frame waited to be taken
        except Exception as raised:  # noqa: BLE001 - a source may raise anything; whoever takes the frames is told
            error = raised
        self._began = time.monotonic()
        try:
            self.source.close()
        except Exception as raised:  # noqa: BLE001 - as above
            error = error or raised
        with self._lock:
            release = self._release
        if release is not None:
            release.join()  # a source that is being closed by one thread does not make another wait for that
        self._released.set()
        self._items.follow(self._items.policy, 2)  # the end takes the place of no frame
        with contextlib.suppress(Closed):
            self._put(_End(error))

    def _read(self) -> None:
        if self.left:
            return
        self.source.open()
        self._began = math.inf
        while self._preview is not None and (frame := self._next_of_source()) is not None and self._preview(frame):
            pass
        if self.left or not self._may_read(self):
            return
        while (frame := self._next_of_source()) is not None:
            self._metrics.captured(frame.captured_at)
            self._put(self._prepared(frame))

    def _next_of_source(self) -> Frame | None:
        """Its next frame; None at its end, and where nobody takes them any more."""
        if self.left:
            return None
        self._began = time.monotonic()
        frame = self.source.read()
        self._began = math.inf
        return None if self.left else frame

    def _put(self, item: T | _End) -> None:
        self._metrics.dropped(len(self._items.put(item)))

    def _interrupt(self) -> None:
        with contextlib.suppress(Exception):  # the thread that reads closes it once more, and tells what is wrong
            self.source.close()


class _End:
    """Nothing more comes, for the reason given or because that was all."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


def silence_of(source: Source) -> str:
    """One sentence on a source that does not answer."""
    if isinstance(source, Diagnosed):
        return source.why_silent()
    return f"{source.name} does not answer; check the disk, network or device that it comes from."


def first_frame(source: Source, patience: float = FIRST_PATIENCE_SECONDS) -> Frame | None:
    """What ``source`` begins with, which is closed again; None where there is nothing in it.

    Raises:
        SourceError: it cannot be opened or read, or does not answer for ``patience`` seconds; it is then left behind,
            and must not be used any more.
    """
    feed: Feed[Frame] = Feed(source, lambda _: True, lambda frame: frame, Metrics())
    feed.start()
    left = patience
    try:
        while True:
            try:
                return feed.next(left)
            except TimeoutError as error:
                left = patience - max(0.0, feed.silent_seconds)
                if left <= 0:
                    raise SourceError(silence_of(source)) from error
    finally:
        feed.end(patience if left > 0 else 0.0)
