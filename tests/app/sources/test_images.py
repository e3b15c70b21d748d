"""Pictures: one, or a folder of them in the order that people expect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from app.sources import SourceError, open_source
from app.sources.images import AnimationSource, ImageFolderSource, ImageSource, read_image
from app.sources.testcard import read_index
from tests.app.media import assert_close_ends_a_read, cards, frames_of, swapped_profile


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


def test_what_a_folder_holds_is_told_by_content(tmp_path: Path):
    card = cards(1, 64, 48)[0]
    picture = Image.fromarray(card)
    picture.save(tmp_path / "1.jpg")
    picture.save(tmp_path / "2.jfif", "JPEG")
    picture.save(tmp_path / "3.gif")
    picture.save(tmp_path / "4.dat", "PNG")
    picture.save(tmp_path / "5.png", "AVIF")
    (tmp_path / "._1.jpg").write_bytes(b"\0\5\26\7" + bytes(4000))
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    source = ImageFolderSource(tmp_path)
    frames = list(frames_of(source))
    assert (len(frames), source.frame_count, source.lost) == (5, 5, None)
    assert all(np.abs(frame.pixels.astype(int) - card).mean() < 12 for frame in frames)


def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path):
    save(tmp_path / "1.png", cards(1)[0])
    (tmp_path / "notes.txt").write_text("not a picture")
    source = ImageFolderSource(tmp_path)
    assert len(list(frames_of(source))) == 1
    assert source.lost == "notes.txt is no picture and was left out."
    (tmp_path / "thumbs").mkdir()
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    list(frames_of(source))
    words = "5 other things in it are no pictures and were left out: 0.mp4, 1.mp4, 2.mp4 and 2 more."
    assert source.lost == words


def test_a_live_folder_goes_on(tmp_path: Path):
    for number, picture in enumerate(cards(2)):
        save(tmp_path / f"{number}.png", picture)
    source = ImageFolderSource(tmp_path, live=True, fps=200)
    source.open()
    frames = [frame for frame in (source.read() for _ in range(5)) if frame]
    assert [read_index(frame.pixels) for frame in frames] == [0, 1, 0, 1, 0]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="None of the 2 pictures"):
        source.read()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_pictures_that_move_are_a_clip_on_paper(tmp_path: Path, suffix: str):
    """Each at its time; what is transparent shows white paper."""
    clear = np.zeros((24, 32, 4), np.uint8)
    pictures = []
    for number in range(3):
        one = clear.copy()
        one[8:16, 8 * number : 8 * number + 8] = (200, 0, 0, 255)
        one[8, 8 * number] = 0  # else WebP's encoder says that nothing is transparent
        pictures.append(Image.fromarray(one))
    extra = {"lossless": True} if suffix == ".webp" else {"disposal": 2}
    path = tmp_path / f"moving{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 300, 200], loop=0, **extra)
    source = open_source(str(path))
    frames = list(frames_of(source))
    assert isinstance(source, AnimationSource)
    assert (source.frame_count, source.lost) == (3, None)
    assert [frame.media_time for frame in frames] == pytest.approx([0, 0.1, 0.4])
    for number, frame in enumerate(frames):
        assert frame.pixels[0, 0].tolist() == [255, 255, 255]
        assert frame.pixels[12, 8 * number + 4].tolist() == pytest.approx([200, 0, 0], abs=2)
        assert frame.pixels[12, (8 * number + 12) % 32].tolist() == [255, 255, 255]


def test_pictures_that_move_go_on_when_live_and_end_with_close(tmp_path: Path):
    pictures = [Image.fromarray(picture) for picture in cards(2, 64, 48)]
    path = tmp_path / "moving.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=20, lossless=True)
    source = AnimationSource(path, live=True)
    source.open()
    assert [read_index(frame.pixels) for frame in (source.read() for _ in range(5)) if frame] == [0, 1, 0, 1, 0]
    source.close()
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=60_000, lossless=True)
    assert_close_ends_a_read(source)


def test_opacity_is_laid_on_paper(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 4), np.uint8)
    noise[..., 3] = 0
    noise[10:30, 20:40] = (255, 0, 0, 128)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    found = read_image(tmp_path / "cut.png")
    assert np.array_equal(np.unique(found[:10]), [255])
    assert found[20, 30].tolist() == [255, 127, 127]


@pytest.mark.parametrize("mode", ["LA", "P", "PA", "RGB", "L"])
def test_opacity_of_every_kind_is_laid_on_paper(tmp_path: Path, mode: str):
    plain = Image.new("RGBA", (16, 8), (0, 0, 0, 255))
    plain.paste((9, 9, 9, 0), (0, 0, 8, 8))
    path = tmp_path / "cut.png"
    if mode in ("RGB", "L"):  # one colour that stands for nothing
        plain.convert(mode).save(path, transparency=(9, 9, 9) if mode == "RGB" else 9)
    elif mode == "P":
        plain.convert("RGB").quantize().save(path, transparency=plain.convert("RGB").quantize().getpixel((0, 0)))
    else:
        path = path.with_suffix(".tif") if mode == "PA" else path
        plain.convert("LA").save(path)
    found = read_image(path)
    assert found[4, 4].tolist() == [255, 255, 255]
    assert found[4, 12].tolist() == [0, 0, 0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_colour_profile_is_carried_out(tmp_path: Path, suffix: str):
    """Red and green change places in the profile: what it says of a colour is seen at once."""
    profile = swapped_profile()
    extra = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.new("RGB", (16, 16), (200, 80, 40)).save(tmp_path / f"a{suffix}", icc_profile=profile, **extra)
    assert read_image(tmp_path / f"a{suffix}")[8, 8].tolist() == pytest.approx([80, 200, 40], abs=3)


def test_a_damaged_profile_is_no_reason_to_see_nothing(tmp_path: Path):
    Image.new("RGB", (16, 16), (200, 80, 40)).save(tmp_path / "a.png", icc_profile=b"nonsense" * 20)
    assert read_image(tmp_path / "a.png")[8, 8].tolist() == [200, 80, 40]


def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path):
    path = tmp_path / "large.ppm"
    path.write_bytes(b"P6 100000 100000 255\n" + bytes(100))
    with pytest.raises(SourceError, match="is 100000x100000 pixels large"):
        read_image(path)


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
