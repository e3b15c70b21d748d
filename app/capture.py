"""The first thread: from a source's frames to tensors in the input queue."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from app.feed import FIRST_PATIENCE_SECONDS, PATIENCE_SECONDS, Feed, silence_of
from app.frame import Frame
from app.frame_queue import FILE, LIVE, Closed, FrameQueue
from app.messages import Captured, EndOfSource
from app.metrics import Metrics
from app.settings import picture_size
from app.sources.base import Source, SourceError
from app.standing import Standing
from app.status import SessionState, StatusBoard
from app.tensors import from_planes
from app.words import of_words

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 5.0
LOST_AGAIN_SECONDS = 10.0
_LOADING = "Loading the model"


def prepare(pixels: np.ndarray, width: int, height: int, fit: str, mirror: bool) -> torch.Tensor:
    """Bring a picture (H, W, 3) uint8 to a (3, height, width) float32 tensor in 0..1.

    Args:
        pixels: RGB, of any size.
        width, height: of the result in pixels.
        fit: ``crop`` cuts what is too much off both sides, ``pad`` adds black bars, ``stretch`` changes the shape.
        mirror: swap left and right.
    """
    if fit == "crop":
        pixels = _centre_of_shape(pixels, width, height)
    if fit == "pad":
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        inner_width = min(width, max(1, round(pixels.shape[1] * scale)))
        inner_height = min(height, max(1, round(pixels.shape[0] * scale)))
        canvas = np.zeros((height, width, 3), np.uint8)
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        canvas[top : top + inner_height, left : left + inner_width] = _resized(pixels, inner_width, inner_height)
        pixels = canvas
    else:
        pixels = _resized(pixels, width, height)
    if mirror:
        pixels = pixels[:, ::-1]
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return from_planes(planes)


def _centre_of_shape(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    found_height, found_width = pixels.shape[:2]
    kept_width = min(found_width, max(1, round(found_height * width / height)))
    kept_height = min(found_height, max(1, round(found_width * height / width)))
    left, top = (found_width - kept_width) // 2, (found_height - kept_height) // 2
    return pixels[top : top + kept_height, left : left + kept_width]


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.shape[1] == width and pixels.shape[0] == height:
        return pixels
    # Area averages when shrinking: anything else makes fine texture crawl from frame to frame.
    shrinks = width < pixels.shape[1] or height < pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def retry_delays() -> Iterator[float]:
    """Seconds to wait before each new attempt at a broken source: doubling, up to a limit, without end."""
    delay = FIRST_RETRY_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, LONGEST_RETRY_SECONDS)


class CaptureThread(threading.Thread):
    """Queues the frames of a source; replaces the source and tries it again.

    The source itself is opened, read and prepared on a thread of its own (``app/feed.py``). One that hangs is said to,
    and left behind where another is asked for, which is then opened at once.

    A live source that stalls or breaks is closed and opened again, after 0.25 s, 0.5 s, ... 5 s, until it gives
    frames or is replaced. A file that breaks off counts as ended there, with a notice; one of which nothing can be
    read is tried again like a live source, but for ``once``, when it ends the thread.

    Args:
        source: what to read from first.
        queue: takes ``Captured`` and ``EndOfSource``; its policy follows the source.
        read_standing: gives how the settings stand now.
        board, metrics: where to report.
        fail: called with the exception that ended the thread, if one did.
        once: end the thread at the end of the source, instead of waiting for another.
        sights: takes the frames of live sources a second time, for whoever follows the motion (``app/reprojection``).
        preview: is shown the frames of live sources until the first model is there, mirrored where that is set.
    """

    def __init__(
        self,
        source: Source,
        queue: FrameQueue[Captured | EndOfSource],
        read_standing: Callable[[], Standing],
        board: StatusBoard,
        metrics: Metrics,
        fail: Callable[[Exception], None],
        *,
        once: bool = False,
        sights: FrameQueue[Captured] | None = None,
        preview: Callable[[Frame], None] | None = None,
    ) -> None:
        super().__init__(name="vitrail-capture", daemon=True)
        self._queue = queue
        self._read_standing = read_standing
        self._board = board
        self._metrics = metrics
        self._fail = fail
        self._once = once
        self._sights = sights
        self._preview = preview
        self._lock = threading.Lock()
        self._next: Source | None = source
        self._feed: Feed[Captured] | None = None
        self._feeds: tuple[Feed[Captured], ...] = ()  # the present one, and those left behind that have not ended
        self._interrupt = threading.Event()  # a new source or the end: whatever the thread waits for, it looks again
        self._halted = False
        self._epoch = board.epoch  # of the source that is served
        self._take = 0  # which one the frames of now belong to
        self._delivered = 0  # frames put so far, of all sources
        self._lost: str | None = None  # what was told that this source has lost, and
        self._lost_told = -math.inf  # when

    @property
    def feeds(self) -> list[Feed[Captured]]:
        """The threads of sources that have not ended; all but one at most are left behind."""
        return [feed for feed in self._feeds if feed.is_alive()]

    def run(self) -> None:
        try:
            while (source := self._take_next()) is not None:
                self._serve(source)
                if self._once and not self._interrupt.is_set():
                    return
        except Closed:
            pass  # the session is over; there is nobody left to tell
        except Exception as error:  # noqa: BLE001 - a source may raise anything; nothing may end a thread unseen
            if not self._halted:
                self._fail(error)
        finally:
            with self._lock:
                self._leave()

    def replace(self, source: Source, *, cut: bool = False) -> None:
        """Go on with another source; whatever is still on its way of the old one is discarded. Never waits.

        Args:
            source: serves once: give a new one even to start the same file or camera again.
            cut: its frames begin another take (``Frame.take``).
        """
        with self._lock:
            self._next = source
            self._take += cut
            self._board.begin_source(f"Opening {source.name}")
            self._interrupt_source()

    def halt(self) -> None:
        """Have the thread end soon, whatever it is doing."""
        with self._lock:
            self._halted = True
            self._interrupt_source()

    def _interrupt_source(self) -> None:
        # Whatever the thread may be waiting for: a model, room in the queue, the next frame, the next attempt.
        self._interrupt.set()
        self._discard_queued()
        self._leave()
        self._board.wake()

    def _leave(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.leave()

    def _discard_queued(self) -> None:
        self._count_dropped(self._queue.clear())

    def _take_next(self) -> Source | None:
        self._board.wait(lambda _: self._halted or self._next is not None)
        with self._lock:
            source, self._next = self._next, None
            if self._halted or source is None:
                return None
            self._interrupt.clear()
            self._epoch = self._board.epoch
            # A frame of the old source may have been put after the swap had emptied the queue.
            self._discard_queued()
            self._queue.follow(*(LIVE if source.live else FILE))
            return source

    def _serve(self, source: Source) -> None:
        """Read ``source`` to its end, or until it is replaced."""
        self._say(SessionState.STARTING, f"Opening {source.name}")
        self._lost, self._lost_told = None, -math.inf
        delays = retry_delays()
        while (feed := self._begin(source)) is not None:
            frames_before = self._delivered
            try:
                self._read_to_end(feed)
                break
            except SourceError as error:
                if self._interrupt.is_set():
                    return
                delivered = self._delivered > frames_before
                if self._once and not source.live and not delivered:
                    raise
                if not source.live and delivered:
                    self._tell_broken_off(source, error)
                    break
                if delivered:
                    delays = retry_delays()
                self._say(SessionState.STALLED, str(error), error)
                self._interrupt.wait(next(delays))
            except Closed:
                raise  # the session is over
            except Exception as error:
                # Of a file, what was read before is a film by itself. A fault that repeats itself for ever is none.
                if source.live or self._delivered == frames_before or self._interrupt.is_set():
                    raise
                logger.error("a source broke off", exc_info=error)
                self._tell_broken_off(source, error)
                break
        if self._interrupt.is_set():
            return
        self._tell_lost(source)
        self._enqueue(EndOfSource(self._epoch, source.live))

    def _begin(self, source: Source) -> Feed[Captured] | None:
        """Another attempt at ``source``; None where it is not wanted any more."""
        with self._lock:
            if self._interrupt.is_set():
                return None
            self._feed = feed = Feed(
                source,
                partial(self._wait_for_model, self._epoch),
                partial(self._prepared, self._epoch, self._take, source.live),
                self._metrics,
                None if self._preview is None else partial(self._previewed, self._epoch),
            )
            self._feeds = (*self.feeds, feed)  # first: it is open from the moment that it begins
            feed.start()
            return feed

    def _previewed(self, epoch: int, frame: Frame) -> bool:
        """Show a frame that no model is there for yet; False once there is one."""
        if self._board.model is not None or epoch != self._board.epoch or frame.blank:
            return False
        self._board.source(epoch, SessionState.LOADING, _LOADING)
        if self._preview is not None:
            mirror = self._read_standing().in_force.mirror
            self._preview(replace(frame, pixels=frame.pixels[:, ::-1]) if mirror else frame)
        return True

    def _wait_for_model(self, epoch: int, feed: Feed[Captured]) -> bool:
        # Were frames read before, the first ones would count the loading as their latency.
        if self._board.model is None:
            self._board.source(epoch, SessionState.LOADING, _LOADING)
        return self._board.wait_for_model(lambda: feed.left) is not None

    def _read_to_end(self, feed: Feed[Captured]) -> None:
        live, patience = feed.source.live, FIRST_PATIENCE_SECONDS
        while (captured := self._next_frame(feed, patience)) is not None and not self._interrupt.is_set():
            if self._sights is not None and live and captured.settings.reprojection != "off":
                self._sights.put(captured)  # first: the motion to a frame is then known before its picture comes
            self._enqueue(captured)
            self._delivered += 1
            self._say(SessionState.RUNNING)
            if live:
                patience = PATIENCE_SECONDS
                self._tell_lost_of_live(feed.source)

    def _next_frame(self, feed: Feed[Captured], patience: float) -> Captured | None:
        """The next frame of ``feed``, however long it takes; after ``patience`` seconds at one call it is said."""
        left: float | None = patience
        while True:
            try:
                return feed.next(left)
            except TimeoutError:
                left = patience - max(0.0, feed.silent_seconds)
                if left <= 0:
                    self._say(SessionState.STALLED, silence_of(feed.source))
                    left = None

    def _prepared(self, epoch: int, take: int, live: bool, frame: Frame) -> Captured:
        model = self._board.model
        assert model is not None, "no frame is read before"
        standing = self._read_standing()
        settings = of_words(standing.in_force) if frame.blank else standing.in_force
        height, width = frame.pixels.shape[:2]
        size = picture_size(settings, width, height, model.default_size, standing.limits.pixels)
        tensor = prepare(frame.pixels, *size, settings.fit, settings.mirror)
        return Captured(replace(frame, tensor=tensor, take=take), settings, epoch, live)

    def _tell_broken_off(self, source: Source, error: Exception) -> None:
        why = str(error) or type(error).__name__
        self._board.notice(f"{source.name} broke off; what follows is lost: {why}", error)

    def _tell_lost_of_live(self, source: Source) -> None:
        """What is played over and over has no end to tell at what was lost; and it may become more with each frame."""
        if time.monotonic() >= self._lost_told + LOST_AGAIN_SECONDS:
            self._tell_lost(source)

    def _tell_lost(self, source: Source) -> None:
        if source.lost and source.lost != self._lost:
            self._lost, self._lost_told = source.lost, time.monotonic()
            self._board.notice(source.lost)

    def _say(self, state: SessionState, message: str = "", error: Exception | None = None) -> None:
        self._board.source(self._epoch, state, message, error)

    def _enqueue(self, item: Captured | EndOfSource) -> None:
        self._count_dropped(self._queue.put(item))

    def _count_dropped(self, items: list[Captured | EndOfSource]) -> None:
        self._metrics.dropped(sum(isinstance(item, Captured) for item in items))
