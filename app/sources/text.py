"""A source for pictures of words alone: it sets the pace and the shape, and its frames have no picture."""

from __future__ import annotations

import threading
import time

import numpy as np

from app.frame import Frame
from app.sources.base import SourceError
from app.sources.pacing import next_beat, wait_until

_GREY = 128


class TextSource:
    """Blank frames, from which text to image makes pictures of the prompt.

    Args:
        width, height: in pixels, at least 8; where the settings leave the size open, only their ratio matters.
        fps: frames a second, above 0.
        frames: how many there are; None for no end.
        live: True to keep to the clock as a camera does; False to give frames as fast as they are read.

    Raises:
        SourceError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        width: int = 256,
        height: int = 256,
        fps: float = 24.0,
        frames: int | None = None,
        live: bool = False,
    ) -> None:
        if not (8 <= width <= 8192 and 8 <= height <= 8192):
            raise SourceError(f"The text source is {width}x{height} pixels; its sides must be between 8 and 8192.")
        if not 0 < fps <= 1000:
            raise SourceError(f"The text source has {fps:g} frames a second; it must be above 0 and at most 1000.")
        if frames is not None and frames < 1:
            raise SourceError(f"The text source has {frames} frames; it must have at least 1.")
        self.name = "words alone"
        self.live = live
        self.fps: float | None = fps
        self.frame_count = frames
        self.lost: str | None = None
        self._blank = np.full((height, width, 3), _GREY, np.uint8)
        self._blank.flags.writeable = False  # all frames share it
        self._period = 1.0 / fps
        self._closing = threading.Event()
        self._index = 0
        self._due = 0.0

    def open(self) -> None:
        """Start again at frame 0."""
        self._closing.clear()
        self._index = 0
        self._due = time.monotonic() - self._period

    def read(self) -> Frame | None:
        """The next blank frame; when live, once its time has come. None at the end or after ``close``."""
        if self._closing.is_set() or (self.frame_count is not None and self._index >= self.frame_count):
            return None
        if self.live:
            self._due = next_beat(self._due, self._period, time.monotonic())
            if not wait_until(self._due, self._closing):
                return None
        index = self._index
        self._index += 1
        media_time = None if self.live else index * self._period
        return Frame(index, time.monotonic(), self._blank, media_time=media_time, blank=True)

    def close(self) -> None:
        """End the stream; a waiting ``read`` returns None at once."""
        self._closing.set()
