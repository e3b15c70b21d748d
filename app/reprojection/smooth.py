"""Pictures between the pictures: a clip at a higher frame rate than the model's, for ``render --fps``."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from app.frame import Frame
from app.opacity import parted, with_alpha
from app.reprojection.flow import Motion
from app.reprojection.track import Track
from app.reprojection.warp import carry
from app.sinks.base import Sink

LOWEST_FPS, HIGHEST_FPS = 1.0, 240.0
_LONGEST_GAP = 0.5  # seconds; over a longer one nothing can be said of the way from one picture to the next
_NEAR = 0.02  # of the time from one picture to the next: that near, it is the picture itself


class SmoothSink:
    """Gives another sink pictures at a constant rate: between two styled pictures both are carried to the moment.

    The earlier one forward, the later one back, each in the share that it is near. At a cut the earlier one stays.

    Attributes:
        made: pictures so far that the model did not make.

    Args:
        sink: takes the pictures; their ``media_time`` is on the even beat, in seconds.
        fps: frames a second, ``LOWEST_FPS`` to ``HIGHEST_FPS``.

    Raises:
        ValueError: ``fps`` is outside of its range.
    """

    def __init__(self, sink: Sink, fps: float) -> None:
        if not LOWEST_FPS <= fps <= HIGHEST_FPS:
            raise ValueError(f"fps is {fps:g}; it must be between {LOWEST_FPS:g} and {HIGHEST_FPS:g} frames a second")
        self.name = sink.name
        self.made = 0
        self._sink = sink
        self._fps = fps
        self._track = Track()
        self._last: Frame | None = None
        self._zero = 0.0  # time of the first picture in seconds
        self._beats = 0  # pictures given so far
        self._period = 0.0  # seconds between the last two pictures that came in

    def open(self) -> None:
        """Open the sink behind. Raises ``SinkError``."""
        self._sink.open()

    def write(self, frame: Frame) -> None:
        """Give what is due up to the time of ``frame``. Raises ``SinkError``."""
        last, self._last = self._last, frame
        if last is None:
            self._zero = _time(frame)
            self._give(frame, with_alpha(frame), made=False)
            return
        start, end = _time(last), _time(frame)
        self._period = end - start
        motion = self._motion(last, frame) if 0 < end - start <= _LONGEST_GAP else None
        earlier, later = with_alpha(last), with_alpha(frame)
        while (due := self._due()) <= end + _NEAR * self._period:
            part = min(1.0, max(0.0, (due - start) / (end - start))) if end > start else 1.0
            if part >= 1 - _NEAR:
                self._give(frame, later, made=False)
            elif part <= _NEAR or motion is None or earlier.shape != later.shape:
                self._give(last, earlier, made=True)
            else:
                self._give(last, _between(earlier, later, motion, part), made=True)

    def close(self) -> None:
        """Hold the last picture for as long as the one before it, and close the sink behind. Raises ``SinkError``."""
        last, self._last = self._last, None
        try:
            while last is not None and self._due() < _time(last) + self._period - 0.5 / self._fps:
                self._give(last, with_alpha(last), made=True)
        finally:
            self._sink.close()

    def _due(self) -> float:
        return self._zero + self._beats / self._fps

    def _give(self, like: Frame, pixels: np.ndarray, *, made: bool) -> None:
        pixels, alpha = parted(pixels)
        frame = replace(like, index=self._beats, pixels=pixels, alpha=alpha, media_time=self._due(), reprojected=made)
        self._sink.write(frame)
        self.made += made
        self._beats += 1

    def _motion(self, last: Frame, frame: Frame) -> Motion | None:
        if last.original is None or frame.original is None:
            return None
        return self._track.between(last.original, frame.original)


def _time(frame: Frame) -> float:
    return frame.captured_at if frame.media_time is None else frame.media_time


def _between(earlier: np.ndarray, later: np.ndarray, motion: Motion, part: float) -> np.ndarray:
    """The picture at ``part`` (0..1) of the way from one to the other, an array like both."""
    forward = Motion(motion.flow * np.float32(part), motion.confidence)
    back = Motion(motion.flow * np.float32(part - 1), motion.confidence)
    return cv2.addWeighted(carry(earlier, forward), 1 - part, carry(later, back), part, 0)
