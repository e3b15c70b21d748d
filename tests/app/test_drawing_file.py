"""Drawings as files: what was saved is what is opened, nothing is lost to a failure, and what is damaged is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.drawing import Brush, Drawing
from app.drawing_file import DrawingError, keep_drawing, kept_drawing, open_drawing, save_drawing

RED = (200, 0, 0)


def painted(width: int = 96, height: int = 64) -> Drawing:
    drawing = Drawing(width, height)
    drawing.import_picture(np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8))
    drawing.stroke([(8, 8), (60, 40)], Brush(RED, size=10))
    return drawing


def test_a_saved_drawing_is_opened_again_pixel_for_pixel_at_its_own_size(tmp_path: Path):
    drawing = painted()
    save_drawing(drawing, tmp_path / "a.png")
    other = Drawing(512, 512)
    open_drawing(other, tmp_path / "a.png")
    np.testing.assert_array_equal(other.look().pixels, drawing.look().pixels)
    other.undo()
    assert other.size == (512, 512)


@pytest.mark.parametrize(("name", "begins"), [("a.jpg", b"\xff\xd8"), ("a.webp", b"RIFF"), ("a.PNG", b"\x89PNG")])
def test_the_suffix_says_the_format(tmp_path: Path, name: str, begins: bytes):
    save_drawing(Drawing(64, 64), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_what_cannot_be_written_is_said_and_the_old_file_stays(tmp_path: Path):
    (tmp_path / "a.bmp").write_bytes(b"old")
    with pytest.raises(DrawingError, match=r"a.bmp is no picture that can be written; name it .png"):
        save_drawing(painted(), tmp_path / "a.bmp")
    with pytest.raises(DrawingError, match="cannot be written: No such file or directory"):
        save_drawing(painted(), tmp_path / "none" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DrawingError, match="cannot be written"):
        save_drawing(painted(), tmp_path / "folder.png")
    assert (tmp_path / "a.bmp").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bmp", "folder.png"]  # and no draft


def test_what_cannot_be_opened_is_said_and_the_drawing_stays(tmp_path: Path):
    drawing = painted()
    before = drawing.look()
    (tmp_path / "no.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((8, 8, 3), np.uint8))
    for name, reason in (("no.png", "picture"), ("small.png", "64 to 4096"), ("none.png", "cannot be read")):
        with pytest.raises(DrawingError, match=reason):
            open_drawing(drawing, tmp_path / name)
    assert drawing.look().revision == before.revision


def test_a_drawing_survives_with_what_lies_under_it(tmp_path: Path):
    drawing = painted()
    keep_drawing(drawing, tmp_path)
    again = kept_drawing(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.look().pixels, drawing.look().pixels)
    assert not again.can_undo
    eraser = Brush(size=500, eraser=True)
    for one in (drawing, again):
        one.stroke([(0, 0), (96, 64)], eraser)
    np.testing.assert_array_equal(again.look().pixels, drawing.look().pixels)
    drawing.clear()  # and a paper that is plain again is plain the next time
    keep_drawing(drawing, tmp_path)
    plain = kept_drawing(tmp_path)
    assert plain is not None
    plain.stroke([(0, 0), (96, 64)], eraser)
    assert (plain.look().pixels == 255).all()


def test_nothing_kept_and_a_damaged_one_are_an_empty_canvas(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert kept_drawing(tmp_path / "none") is None
    assert caplog.text == ""
    keep_drawing(painted(), tmp_path)
    whole = (tmp_path / "drawing.png").read_bytes()
    (tmp_path / "drawing.png").write_bytes(whole[:99])
    assert kept_drawing(tmp_path) is None
    assert "cannot be taken up again" in caplog.text
    keep_drawing(Drawing(), tmp_path)  # as the window does at its end
    assert (tmp_path / "drawing.png.bad").read_bytes() == whole[:99]
    (tmp_path / "drawing.png").write_bytes(whole[:50])
    assert kept_drawing(tmp_path) is None
    assert (tmp_path / "drawing.png.bad").read_bytes() == whole[:99]  # what was set aside before stays
    assert (tmp_path / "drawing.png.2.bad").read_bytes() == whole[:50]
    (tmp_path / "drawing.png").write_bytes(whole)
    cv2.imwrite(str(tmp_path / "ground.png"), np.zeros((70, 70, 3), np.uint8))  # of another drawing
    again = kept_drawing(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.look().pixels, painted().look().pixels)
