"""A video file as a source: every frame in order, upright, with its time; or played in real time like a camera."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from app.frame import Frame
from app.media.errors import MediaError
from app.media.film import Film, TimedPicture
from app.sources.base import SourceError
from app.sources.pacing import wait_until

_CATCH_UP_SECONDS = 0.5  # a clip held up for longer than this goes on from where it is, instead of racing


class VideoSource:
    """The frames of a clip.

    As a file (the default) it gives every frame, as fast as it is read. With ``realtime`` it keeps to the clock and is
    a live source, over and over again with ``loop``; then ``seek`` and ``loop`` may be used while another thread reads.

    Attributes:
        lost: after damaged or missing data, one sentence on how much could not be read; else None.
        duration: how long the clip is in seconds, once it is open; None where the file does not say.
        position: media time in seconds of the last frame read.
        loop: start again at the end; only with ``realtime``.

    Args:
        path: the clip, in any container and codec that FFmpeg reads.
        realtime: give each frame when its time has come.
        loop: as the attribute.
        start: media time in seconds to begin at; only with ``realtime``.
    """

    def __init__(self, path: str | Path, *, realtime: bool = False, loop: bool = False, start: float = 0.0) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self.live = realtime
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self.duration: float | None = None
        self.position = 0.0
        self.loop = loop and realtime
        self._wanted = start if realtime and start > 0 else None  # media time to go on from
        self._closing = threading.Event()
        self._interrupt = threading.Event()  # a seek or the end: whoever waits for a frame's time looks again
        self._busy = threading.Lock()  # FFmpeg's objects must not be freed while another thread decodes with them
        self._film: Film | None = None
        self._pictures: Iterator[TimedPicture] = iter(())
        self._index = 0
        self._round_begun = 0  # index at which this round of a loop began
        self._jumped = False  # this round did not begin at the beginning
        self._clock_zero: float | None = 0.0  # when media time 0 falls; None until the first frame after a jump

    def open(self) -> None:
        """Open the clip at its beginning.

        Raises:
            SourceError: the file is missing, empty, not a video, or has no video stream.
        """
        with self._busy:
            self._release()
            self._closing.clear()
            self._interrupt.clear()
            try:
                self._film = film = Film(self._path, self._closing)
            except MediaError as error:
                raise SourceError(str(error)) from error
            self.fps = film.fps
            self.frame_count = None if self.loop else film.length.frames
            self.duration = film.length.seconds
            self.lost = None
            self._index = 0
            self._begin_round(time.monotonic())

    def read(self) -> Frame | None:
        """The next frame, or None at the end of the clip or after ``close``.

        Raises:
            SourceError: not a single frame of the file can be decoded.
        """
        with self._busy:
            while (picture := self._next_picture()) is not None:
                media_time, pixels = picture
                if self.live and not self._wait_for(media_time):
                    continue  # closed, or another place is wanted
                index = self._index
                self._index += 1
                self.position = media_time
                return Frame(index, time.monotonic(), pixels, media_time=None if self.live else media_time)
            return None

    def seek(self, seconds: float) -> None:
        """Go on from this media time; the next frame read is the first at or after it. Never waits.

        Args:
            seconds: below 0 counts as 0; beyond the end is the end.

        Raises:
            ValueError: the source is not in real time, where every frame counts; or this is not a number.
        """
        if not self.live:
            raise ValueError("only a clip that plays in real time can be sought in")
        if not math.isfinite(seconds):
            raise ValueError(f"{seconds} is no time to go to")
        self._wanted = max(0.0, seconds)
        self._interrupt.set()

    def close(self) -> None:
        """Release the file; a waiting ``read`` returns None."""
        self._closing.set()
        self._interrupt.set()
        with self._busy:
            self._release()

    def _next_picture(self) -> TimedPicture | None:
        try:
            while not self._closing.is_set() and (film := self._film) is not None:
                if self._wanted is not None:
                    self._jump(film)
                picture = next(self._pictures, None)
                if picture is not None:
                    if self._clock_zero is None:  # after a jump, time begins with the first frame there
                        self._clock_zero = time.monotonic() - picture[0]
                    return picture
                if not self._jumped and not self._closing.is_set():
                    if self._index == self._round_begun:
                        raise SourceError(film.nothing)
                    self.lost = film.lost
                if not self.loop:
                    return None
                self._begin_round(time.monotonic() if self._clock_zero is None else self._clock_zero + film.end)
        except MediaError as error:
            raise SourceError(str(error)) from error
        return None

    def _begin_round(self, clock_zero: float) -> None:
        """Play from the film's beginning, whose media time 0 falls on ``clock_zero`` (``time.monotonic()`` seconds)."""
        assert self._film is not None
        self._jumped = False
        self._pictures = self._film.pictures()
        self._round_begun = self._index
        self._clock_zero = clock_zero

    def _jump(self, film: Film) -> None:
        """Go on from the media time that is wanted."""
        self._interrupt.clear()
        wanted, self._wanted = self._wanted, None  # in this order: a seek that comes in between is met again
        if self._closing.is_set():
            self._interrupt.set()
        if wanted is None:
            return
        if self.duration is not None:
            wanted = min(wanted, self.duration)
        self._jumped = True
        self._pictures = film.pictures(wanted)
        self._clock_zero = None

    def _wait_for(self, media_time: float) -> bool:
        """Wait for the frame's time; False where something else is wanted before."""
        assert self._clock_zero is not None
        due = self._clock_zero + media_time
        late = time.monotonic() - due
        if late > _CATCH_UP_SECONDS:
            self._clock_zero += late
        return wait_until(due, self._interrupt)

    def _release(self) -> None:
        self._pictures = iter(())
        if self._film is not None:
            self._film.close()
            self._film = None
