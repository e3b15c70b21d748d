"""Pictures as sinks, and the callback."""

from __future__ import annotations

import subprocess
import sys
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


FULL = r"""
import resource, signal, sys
from pathlib import Path
from app.frame import Frame
from app.sinks import ImageFolderSink, ImageSink, SinkError
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
folder = Path(sys.argv[1])
for sink in (ImageSink(folder / "out.png"), ImageSink(folder / "out.jpg"), ImageFolderSink(folder)):
    sink.open()
    try:
        sink.write(Frame(0, 0.0, noise))
    except SinkError as error:
        sys.stdout.write(f"{error}\n")
    sink.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes is POSIX")
def test_a_disk_that_fills_up_within_a_picture_leaves_the_old_one(tmp_path: Path):
    names = ["out.png", "frame_000001.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"precious")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.count("cannot be written") == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"precious")


def test_pictures_of_earlier_times_are_counted_and_stay(tmp_path: Path):
    names = [*(f"frame_{number:06d}.png" for number in range(1, 8)), "frame_1.png", "frame_000009.jpg", "mine.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    sink = ImageFolderSink(tmp_path)
    for count in (3, 7):
        sink.open()
        for index, picture in enumerate(cards(count)):
            sink.write(Frame(index, 0.0, picture))
        sink.close()
        sink.close()
        assert sink.older == 7 - count
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_name_as_long_as_a_name_can_be_is_written(tmp_path: Path):
    path = tmp_path / f"{'é' * 125}.png"
    sink = ImageSink(path)
    sink.open()
    sink.write(Frame(0, 0.0, cards(1)[0]))
    sink.close()
    assert list(tmp_path.iterdir()) == [path]


def test_a_callback_gets_the_very_frame():
    taken: list[Frame] = []
    sink = CallbackSink(taken.append, "preview")
    frame = Frame(0, 0.0, cards(1)[0])
    sink.open()
    sink.write(frame)
    sink.close()
    assert taken == [frame]
    assert sink.name == "preview"
