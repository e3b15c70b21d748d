"""The first thread: from a source to tensors in the input queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from app.frame import Frame
from app.frame_queue import FILE, LIVE, Closed, FrameQueue
from app.metrics import Metrics
from app.settings import Settings, picture_size
from app.sources.base import Source, SourceError
from app.standing import Standing
from app.status import SessionState, StatusBoard
from app.tensors import from_planes
from app.words import of_words

if TYPE_CHECKING:
    import torch

FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Captured:
    """A prepared frame, with all that the worker must know to treat it rightly.

    Attributes:
        frame: with its tensor.
        settings: as they were when it was captured. They travel with the frame, so that a change meets exactly the
            frames that came after it, however long the queue.
        epoch: which source it came from: 1, 2, ... by the session's count.
        live: whether newer frames may take its place.
    """

    frame: Frame
    settings: Settings
    epoch: int
    live: bool


@dataclass(frozen=True, slots=True)
class EndOfSource:
    """Source number ``epoch`` has delivered its last frame."""

    epoch: int
    live: bool


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
    """Opens the source, reads, prepares and queues its frames; replaces and retries it.

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
    ) -> None:
        super().__init__(name="vitrail-capture", daemon=True)
        self._queue = queue
        self._read_standing = read_standing
        self._board = board
        self._metrics = metrics
        self._fail = fail
        self._once = once
        self._sights = sights
        self._lock = threading.Lock()
        self._next: Source | None = source
        self._current: Source | None = None
        self._interrupt = threading.Event()  # a new source or the end: whatever the thread waits for, it looks again
        self._halted = False
        self._epoch = 0
        self._delivered = 0  # frames put so far, of all sources

    def run(self) -> None:
        try:
            while (source := self._take_next()) is not None:
                try:
                    self._serve(source)
                finally:
                    source.close()
                if self._once and not self._interrupt.is_set():
                    return
        except Closed:
            pass  # the session is over; there is nobody left to tell
        except Exception as error:  # noqa: BLE001 - a source may raise anything; nothing may end a thread unseen
            if not self._halted:
                self._fail(error)

    def replace(self, source: Source) -> None:
        """Go on with another source; what of the old one is still queued is discarded.

        A source object serves once: give a new one even to start the same file or camera again.
        """
        with self._lock:
            self._next = source
            self._interrupt_source()

    def halt(self) -> None:
        """Have the thread end soon, whatever it is doing."""
        with self._lock:
            self._halted = True
            self._interrupt_source()

    def _interrupt_source(self) -> None:
        # Whatever the thread may be blocked in: the wait for a model, a full queue, or the source's own read. Under the
        # lock, so that the thread cannot already be at the next source, whose frames must not be touched.
        self._interrupt.set()
        self._discard_queued()
        self._board.wake()
        if self._current is not None:
            # A driver may hang in close as well as in read; whoever asked for the change must not hang with it.
            threading.Thread(target=self._current.close, name="vitrail-release", daemon=True).start()

    def _discard_queued(self) -> None:
        self._count_dropped(self._queue.clear())

    def _take_next(self) -> Source | None:
        self._board.wait(lambda _: self._halted or self._next is not None)
        with self._lock:
            source, self._next = self._next, None
            if self._halted or source is None:
                return None
            self._current = source
            self._interrupt.clear()
            self._epoch += 1
            # A frame of the old source may have been put after the swap had emptied the queue.
            self._discard_queued()
            self._queue.follow(*(LIVE if source.live else FILE))
            return source

    def _serve(self, source: Source) -> None:
        """Read ``source`` to its end, or until it is replaced."""
        self._board.source(SessionState.STARTING, f"Opening {source.name}")
        delays = retry_delays()
        while not self._interrupt.is_set():
            frames_before = self._delivered
            try:
                self._read_to_end(source)
                break
            except SourceError as error:
                if self._interrupt.is_set():
                    return
                delivered = self._delivered > frames_before
                if self._once and not source.live and not delivered:
                    raise
                if not source.live and delivered:
                    self._board.notice(f"{source.name} broke off; what follows is lost: {error}", error)
                    break
                if delivered:
                    delays = retry_delays()
                self._board.source(SessionState.STALLED, str(error), error)
                source.close()
                self._interrupt.wait(next(delays))
        if self._interrupt.is_set():
            return
        if source.lost:
            self._board.notice(source.lost)
        self._enqueue(EndOfSource(self._epoch, source.live))

    def _read_to_end(self, source: Source) -> None:
        source.open()
        if self._board.model is None:
            # Were frames read already, the first ones would count the loading as their latency.
            self._board.source(SessionState.LOADING, "Loading the model")
        while (model := self._board.wait_for_model(self._interrupt.is_set)) and not self._interrupt.is_set():
            frame = source.read()
            if frame is None or self._interrupt.is_set():
                return
            self._metrics.captured(frame.captured_at)
            captured = self._prepared(frame, model.default_size, source.live)
            if self._sights is not None and source.live and captured.settings.reprojection != "off":
                self._sights.put(captured)  # first: the motion to a frame is then known before its picture comes
            self._enqueue(captured)
            self._delivered += 1
            self._board.source(SessionState.RUNNING)

    def _prepared(self, frame: Frame, default_size: int, live: bool) -> Captured:
        standing = self._read_standing()
        settings = of_words(standing.in_force) if frame.blank else standing.in_force
        height, width = frame.pixels.shape[:2]
        size = picture_size(settings, width, height, default_size, standing.limits.pixels)
        tensor = prepare(frame.pixels, *size, settings.fit, settings.mirror)
        return Captured(replace(frame, tensor=tensor), settings, self._epoch, live)

    def _enqueue(self, item: Captured | EndOfSource) -> None:
        self._count_dropped(self._queue.put(item))

    def _count_dropped(self, items: list[Captured | EndOfSource]) -> None:
        self._metrics.dropped(sum(isinstance(item, Captured) for item in items))
