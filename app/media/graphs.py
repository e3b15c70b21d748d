"""FFmpeg's filters as functions on pictures: one in, those that are ready out."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN
from fractions import Fraction

import av
from av.error import EOFError as Ended
from av.error import FFmpegError
from av.filter import Graph

_TICK = Fraction(1, 90_000)


class Filter:
    """One filter on pictures of one size and format.

    Args:
        like: a picture of that size, format and time base.
        name: of the filter, with its ``options``.
    """

    def __init__(self, like: av.VideoFrame, name: str, **options: str) -> None:
        self._graph = graph = Graph()
        base = like.time_base or _TICK
        source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=base)
        step, sink = graph.add(name, **options), graph.add("buffersink")
        source.link_to(step)
        step.link_to(sink)
        graph.configure()
        self._fits = _shape(like)

    def fits(self, frame: av.VideoFrame) -> bool:
        """Whether ``frame`` is of the same size, format and time base."""
        return _shape(frame) == self._fits

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Put ``frame`` in, or None after the last one, and take out what is ready."""
        self._graph.vpush(frame)
        while True:
            try:
                yield self._graph.vpull()
            except Ended:
                return
            except FFmpegError as error:
                if error.errno != EAGAIN:
                    raise
                return


def _shape(frame: av.VideoFrame) -> tuple[int, int, str, Fraction | None]:
    return frame.width, frame.height, frame.format.name, frame.time_base
