"""A file in real time, over and over: what a folder of pictures is in the window."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from app.frame import Frame
from app.sources.base import Source
from app.sources.pacing import wait_until

_CATCH_UP_SECONDS = 0.5  # what is held up for longer than this goes on from where it is, instead of racing


class PlayedSource:
    """Gives each frame of another source when its time has come, and begins again after the last one.

    Attributes:
        lost: that of the last round.

    Args:
        source: a file, whose frames have a ``media_time``; it is opened anew for each round.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.live = True
        self.fps = source.fps
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._source = source
        self._closing = threading.Event()
        self._index = 0
        self._begin_round(0.0)

    def open(self) -> None:
        """Begin at the first frame. Raises ``SourceError`` as the source does; indices go on counting."""
        self._closing.clear()
        self._source.open()
        self.fps = self._source.fps
        self._begin_round(time.monotonic())

    def read(self) -> Frame | None:
        """The next frame, once its time has come; None after ``close``, and where there is none at all.

        Raises:
            SourceError: as the source does.
        """
        frame = self._source.read()
        if frame is None and self._frames_of_round and not self._closing.is_set():
            self.lost = self._source.lost
            self._source.open()
            self._begin_round(self._zero + self._round_seconds)
            frame = self._source.read()
        if frame is None or not self._wait_for(frame.media_time or 0.0):
            return None
        index = self._index
        self._index += 1
        self._frames_of_round += 1
        self._round_seconds = (frame.media_time or 0.0) + (1 / self.fps if self.fps else 0.0)
        return replace(frame, index=index, captured_at=time.monotonic(), media_time=None)

    def close(self) -> None:
        """Close the source; a waiting ``read`` returns None at once."""
        self._closing.set()
        self._source.close()

    def _begin_round(self, zero: float) -> None:
        self._zero = zero  # when media time 0 falls, by ``time.monotonic()``
        self._frames_of_round = 0
        self._round_seconds = 0.0

    def _wait_for(self, media_time: float) -> bool:
        late = time.monotonic() - (self._zero + media_time)
        if late > _CATCH_UP_SECONDS:
            self._zero += late
        return wait_until(self._zero + media_time, self._closing)
