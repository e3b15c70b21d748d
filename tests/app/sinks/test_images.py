"""Pictures as sinks, and the callback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.frame import Frame
from app.sinks import CallbackSink, ImageFolderSink, ImageSink, SinkError
from app.sources.images import read_image
from tests.app.media import cards


def test_a_folder_takes_numbered_pictures_pixel_for_pixel(tmp_path: Path):
    sink = ImageFolderSink(tmp_path / "frames")
    sink.open()
    for index, picture in enumerate(cards(3)):
        sink.write(Frame(index, 0.0, picture))
    sink.close()
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["frame_000001.png", "frame_000002.png", "frame_000003.png"]
    assert np.array_equal(read_image(tmp_path / "frames" / names[2]), cards(3)[2])


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "frames").touch()
    with pytest.raises(SinkError, match="is a file; give a folder"):
        ImageFolderSink(tmp_path / "frames").open()


def test_a_folder_in_no_folder_cannot_be_made(tmp_path: Path):
    with pytest.raises(SinkError, match="cannot be made"):
        ImageFolderSink(tmp_path / "gone" / "frames").open()


def test_one_picture_shows_the_last_frame(tmp_path: Path):
    sink = ImageSink(tmp_path / "å.png")
    sink.open()
    for index, picture in enumerate(cards(2)):
        sink.write(Frame(index, 0.0, picture))
    sink.close()
    assert np.array_equal(read_image(tmp_path / "å.png"), cards(2)[1])


@pytest.mark.parametrize(("name", "why"), [("out.txt", "use one of"), ("gone/out.png", "there is no folder")])
def test_where_no_picture_can_be_written_it_says_so(tmp_path: Path, name: str, why: str):
    with pytest.raises(SinkError, match=why):
        ImageSink(tmp_path / name).open()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_is_an_error(tmp_path: Path):
    (tmp_path / "out.png").symlink_to("/dev/full")
    sink = ImageSink(tmp_path / "out.png")
    sink.open()
    with pytest.raises(SinkError, match="No space left"):
        sink.write(Frame(0, 0.0, cards(1)[0]))


def test_a_callback_gets_the_very_frame():
    taken: list[Frame] = []
    sink = CallbackSink(taken.append, "preview")
    frame = Frame(0, 0.0, cards(1)[0])
    sink.open()
    sink.write(frame)
    sink.close()
    assert taken == [frame]
    assert sink.name == "preview"
