"""The source of words alone: pace, shape and number of frames that have no picture."""

from __future__ import annotations

import threading

import pytest

from app.sources import SourceError, open_source
from app.sources.text import TextSource
from app.words import TEXT_FRAMES


def test_frames_are_blank_counted_and_timed() -> None:
    source = TextSource(width=64, height=40, fps=10, frames=3)
    source.open()
    frames = [source.read() for _ in range(4)]
    assert frames[3] is None
    shown = [frame for frame in frames if frame is not None]
    assert [frame.index for frame in shown] == [0, 1, 2]
    assert [frame.media_time for frame in shown] == pytest.approx([0, 0.1, 0.2])
    assert all(frame.blank and frame.pixels.shape == (40, 64, 3) for frame in shown)
    source.open()
    again = source.read()
    assert again is not None
    assert again.index == 0


def test_a_live_one_waits_for_its_beat_and_close_ends_the_wait() -> None:
    source = TextSource(fps=0.01, live=True)
    source.open()
    first = source.read()
    assert first is not None
    assert first.media_time is None
    threading.Timer(0.05, source.close).start()
    assert source.read() is None


def test_the_words_for_it() -> None:
    assert open_source("text").frame_count == TEXT_FRAMES
    assert open_source("text", live=True).frame_count is None
    source = open_source("text:frames=7,fps=12,width=64,height=32")
    assert (source.frame_count, source.fps, source.live) == (7, 12, False)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("text:colour=3", "write text:NAME=NUMBER,… with width, height, fps, frames"),
        ("text:frames=many", "is not understood"),
        ("text:frames=0", "at least 1"),
        ("text:fps=0", "above 0"),
        ("text:width=4", "between 8 and 8192"),
        ("text:width=100000", "between 8 and 8192"),
    ],
)
def test_misuse_is_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        open_source(spec)
