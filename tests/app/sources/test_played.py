"""Files in real time: every picture at its time, round after round."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.sources import SourceError, open_source
from app.sources import played as module
from app.sources.images import ImageFolderSource
from app.sources.played import PlayedSource
from tests.app.media import assert_close_ends_a_read


def folder_of(tmp_path: Path, count: int) -> Path:
    for number in range(count):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), 10 * number, np.uint8))
    return tmp_path


def test_a_folder_plays_over_and_over_in_the_window(tmp_path: Path):
    source = open_source(str(folder_of(tmp_path, 3)), live=True)
    assert isinstance(source, PlayedSource)
    assert (source.live, source.fps, source.frame_count) == (True, 24.0, None)
    source.open()
    frames = [source.read() for _ in range(7)]
    source.close()
    assert [frame.index for frame in frames if frame] == list(range(7))
    assert [int(frame.pixels[0, 0, 0]) for frame in frames if frame] == [0, 10, 20, 0, 10, 20, 0]
    assert all(frame.media_time is None for frame in frames if frame)
    times = [frame.captured_at for frame in frames if frame]
    assert times[-1] - times[0] >= 5 / 24, "at its rate, not as fast as it is read"
    assert source.read() is None


def test_a_folder_is_a_file_where_every_frame_counts(tmp_path: Path):
    assert isinstance(open_source(str(folder_of(tmp_path, 1))), ImageFolderSource)


def test_a_picture_that_comes_late_is_followed_at_the_usual_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As after a disk that slept: the rest is not raced through."""
    now, waits = [100.0], []

    def wait_until(due: float, _: object) -> bool:
        waits.append(due - now[0])
        now[0] = max(now[0], due)
        return True

    monkeypatch.setattr(module, "wait_until", wait_until)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    source = PlayedSource(ImageFolderSource(folder_of(tmp_path, 4), fps=10))
    source.open()
    source.read()
    now[0] += 5
    for _ in range(3):
        source.read()
    assert waits == pytest.approx([0.0, 0.0, 0.1, 0.1])


def test_what_a_folder_lacks_is_said(tmp_path: Path):
    (folder_of(tmp_path, 1) / "9.png").write_bytes(b"no picture")
    source = open_source(str(tmp_path), live=True)
    source.open()
    source.read()
    source.read()
    source.close()
    assert source.lost == "9.png could not be read and was left out."


def test_a_folder_without_a_picture_is_refused(tmp_path: Path):
    with pytest.raises(SourceError, match="has no pictures in it"):
        open_source(str(tmp_path), live=True).open()


def test_close_ends_the_wait_for_the_next_picture(tmp_path: Path):
    assert_close_ends_a_read(PlayedSource(ImageFolderSource(folder_of(tmp_path, 2), fps=0.001)))
