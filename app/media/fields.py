"""Whole pictures from interlaced ones, in which every second line was taken a moment later."""

from __future__ import annotations

from collections.abc import Iterator

import av

from app.media.errors import MEDIA_ERRORS
from app.media.graphs import Filter


class Deinterlacer:
    """Hands frames on as they are; from the first interlaced one on, through FFmpeg's filter ``bwdif``.

    One picture comes for each frame, with its time; frames that are marked as progressive pass unchanged. The filter
    looks at a frame and its two neighbours, so that pictures come one frame late.

    Attributes:
        failed: whether there were frames that the filter could not take, which went on as they were.
    """

    def __init__(self) -> None:
        self.failed = False
        self._filter: Filter | None = None

    def __call__(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The pictures that are ready now that ``frame`` has come."""
        if self._filter is not None and not self._filter.fits(frame):
            yield from self.flush()
        if self._filter is None and not (frame.interlaced_frame and self._start(frame)):
            yield frame
        elif self._filter is not None:
            yield from self._filter(frame)

    def flush(self) -> Iterator[av.VideoFrame]:
        """The pictures that are still to come after the last frame."""
        last, self._filter = self._filter, None
        if last is not None:
            yield from last(None)

    def _start(self, like: av.VideoFrame) -> bool:
        if not self.failed:
            try:
                self._filter = Filter(like, "bwdif", mode="send_frame", deint="interlaced")
            except MEDIA_ERRORS:
                self.failed = True
        return self._filter is not None
