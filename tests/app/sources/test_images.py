"""Pictures: one, or a folder of them in the order that people expect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.sources import SourceError
from app.sources.images import ImageFolderSource, ImageSource
from app.sources.testcard import read_index
from tests.app.media import cards, frames_of


def save(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes())


def test_a_picture_is_one_frame(tmp_path: Path):
    card = cards(1)[0]
    save(tmp_path / "å picture.png", card)
    frames = list(frames_of(ImageSource(tmp_path / "å picture.png")))
    assert len(frames) == 1
    assert np.array_equal(frames[0].pixels, card)
    assert frames[0].media_time == 0


def test_a_live_picture_goes_on(tmp_path: Path):
    save(tmp_path / "still.png", cards(1)[0])
    source = ImageSource(tmp_path / "still.png", live=True, fps=200)
    source.open()
    assert [frame.index for frame in (source.read() for _ in range(5)) if frame] == [0, 1, 2, 3, 4]
    source.close()
    assert source.read() is None


def test_a_folder_is_read_in_natural_order(tmp_path: Path):
    pictures = cards(12)
    for number in (10, 9, 1, 11, 2):
        save(tmp_path / f"Frame{number}.png", pictures[number])
    (tmp_path / "notes.txt").write_text("not a picture")
    source = ImageFolderSource(tmp_path, fps=10)
    frames = list(frames_of(source))
    assert [read_index(frame.pixels) for frame in frames] == [1, 2, 9, 10, 11]
    assert [frame.media_time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert (source.frame_count, source.lost) == (5, None)


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path: Path):
    for number, picture in enumerate(cards(3)):
        save(tmp_path / f"{number}.png", picture)
    (tmp_path / "1.png").write_bytes(b"scribble")
    source = ImageFolderSource(tmp_path)
    frames = list(frames_of(source))
    assert [read_index(frame.pixels) for frame in frames] == [0, 2]
    assert [frame.index for frame in frames] == [0, 1]
    assert source.lost == "1.png could not be read and was left out."


def test_a_folder_of_nothing_but_broken_pictures_is_an_error(tmp_path: Path):
    (tmp_path / "1.png").write_bytes(b"scribble")
    (tmp_path / "2.png").touch()
    source = ImageFolderSource(tmp_path)
    source.open()
    with pytest.raises(SourceError, match="None of the 2 pictures"):
        source.read()


def test_a_folder_without_pictures_is_an_error(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(SourceError, match="has no pictures"):
        ImageFolderSource(tmp_path).open()


def test_a_missing_folder_is_an_error(tmp_path: Path):
    with pytest.raises(SourceError, match="cannot be read"):
        ImageFolderSource(tmp_path / "gone").open()


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"", "empty"), (b"scribble", "not a picture")])
def test_what_is_no_picture_is_said_to_be(tmp_path: Path, content: bytes | None, why: str):
    path = tmp_path / "thing.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=why):
        ImageSource(path).open()
