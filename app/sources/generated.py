"""What sources have in common that make their frames themselves, or hold the one picture that they give."""

from __future__ import annotations

import time

import numpy as np

from app.frame import Frame
from app.sources.pacing import Beat


class GeneratedSource:
    """Frames that are all there from the start; a kind says what is in them (``picture``).

    Args:
        name: for people.
        fps: frames a second, above 0.
        frames: how many there are; None for no end.
        live: True to keep to the clock as a camera does; False to give frames as fast as they are read.
        blank: whether the frames have no picture, only its size (see ``Frame``).
    """

    def __init__(self, name: str, *, fps: float, frames: int | None, live: bool, blank: bool = False) -> None:
        self.name = name
        self.live = live
        self.fps: float | None = fps
        self.frame_count = frames
        self.lost: str | None = None
        self._period = 1.0 / fps
        self._blank = blank
        self._beat = Beat(fps)
        self._index = 0

    def open(self) -> None:
        """Start again at frame 0."""
        self._beat.start()
        self._index = 0

    def read(self) -> Frame | None:
        """The next frame; when live, once its time has come. None at the end or after ``close``."""
        if self._beat.stopped or (self.frame_count is not None and self._index >= self.frame_count):
            return None
        if self.live and not self._beat.wait():
            return None
        index = self._index
        self._index += 1
        media_time = None if self.live else index * self._period
        return Frame(index, time.monotonic(), self.picture(index), media_time=media_time, blank=self._blank)

    def close(self) -> None:
        """End the stream; a waiting ``read`` returns None at once."""
        self._beat.stop()

    def picture(self, index: int, /) -> np.ndarray:
        """Frame ``index`` as (height, width, 3) uint8 RGB."""
        raise NotImplementedError
