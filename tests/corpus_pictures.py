"""The corpus: pictures of every format, mode, profile and orientation, damaged ones, and folders of them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.app.media import cards, swapped_profile, write_clip
from tests.corpus_case import Case, Frames, Says
from tests.corpus_video import Tiles, heic

WIDTH, HEIGHT = 64, 48
RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PLACES = ((16, 12), (48, 12), (16, 36), (48, 36))
QUARTERS = dict(zip(PLACES, (RED, LIME, BLUE, WHITE), strict=True))
FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM", "gif": "GIF"}
# How a picture that stands upright is stored under each orientation of EXIF.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quarters() -> Image.Image:
    """Red and lime above blue and white."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2], pixels[: HEIGHT // 2, WIDTH // 2 :] = RED, LIME
    pixels[HEIGHT // 2 :, : WIDTH // 2], pixels[HEIGHT // 2 :, WIDTH // 2 :] = BLUE, WHITE
    return Image.fromarray(pixels)


def clear(alpha: int) -> Image.Image:
    """The quarters, all of the same opacity (of 255)."""
    picture = quarters().convert("RGBA")
    picture.putalpha(alpha)
    return picture


def saved(name: str, picture: Callable[[], Image.Image], folder: Path, **how: Any) -> Path:
    """Write a picture; ``format`` says of which kind, where its name does not."""
    picture().save(folder / name, **how)
    return folder / name


def cut(name: str, share: float, folder: Path) -> Path:
    """The quarters, of which only a part is there."""
    path = saved(name, noise, folder)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def noise() -> Image.Image:
    """Something that does not become a few bytes."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


def written(name: str, content: bytes, folder: Path) -> Path:
    """A file of these bytes."""
    (folder / name).write_bytes(content)
    return folder / name


def by_opencv(name: str, pixels: np.ndarray, folder: Path) -> Path:
    """Kinds of numbers that Pillow does not write."""
    return written(name, cv2.imencode(Path(name).suffix, pixels)[1].tobytes(), folder)


def turned(name: str, orientation: int, mode: str, folder: Path) -> Path:
    """The quarters lying as a camera leaves them, and the number that says how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = quarters().convert(mode).transpose(STORED[orientation])
    how = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(name.rpartition(".")[2], {})
    stored.save(folder / name, exif=exif, **how)
    return folder / name


def moving(name: str, folder: Path, *, share: float = 1.0, **how: Any) -> Path:
    """Four pictures, a fifth of a second each."""
    shades = [Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)) for shade in (10, 90, 170, 250)]
    shades[0].save(folder / name, save_all=True, append_images=shades[1:], duration=200, loop=0, **how)
    data = (folder / name).read_bytes()
    return written(name, data[: int(len(data) * share)], folder)


def linked(name: str, to: str, folder: Path) -> Path:
    """A symbolic link."""
    (folder / name).symlink_to(to)
    return folder / name


def pipe(name: str, folder: Path) -> Path:
    """A named pipe that nobody writes to."""
    os.mkfifo(folder / name)
    return folder / name


def clip_called(name: str, folder: Path) -> Path:
    """A video under any name."""
    return write_clip(folder / "clip.mp4", cards(3, WIDTH, HEIGHT)).rename(folder / name)


def coded(brand: bytes, folder: Path) -> Path:
    """Frames of a video in a file that calls itself by ``brand``, as cameras that store HEIC do."""
    path = clip_called("a.heic", folder)
    data = path.read_bytes()
    path.write_bytes(data[:8] + brand + data[12:])
    return path


def tiled(folder: Path, leave_out: int = 0) -> Path:
    """The quarters twice as large, as a photo of four tiles, of which some may be missing."""
    pixels = np.asarray(quarters().resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST))
    return heic(folder / "a.heic", Tiles(pixels, leave_out=leave_out))


def picture(name: str, make: Callable[[Path], Path], right: Frames | Says) -> Case:
    """A picture as a source."""
    return Case("picture", name, make, right)


def _formats() -> Iterator[Case]:
    plain = Frames(size=(WIDTH, HEIGHT), colours=QUARTERS)
    lossy = Frames(size=(WIDTH, HEIGHT), colours=QUARTERS, within=12)
    for suffix, kind in FORMATS.items():
        right = lossy if suffix in ("jpg", "webp") else plain
        yield picture(kind, partial(saved, f"a.{suffix}", quarters), right)
    yield picture("AVIF", partial(saved, "a.avif", quarters, quality=95), lossy)
    for name, kind in (("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a", "PNG"), ("a.jpg", "PNG"), ("a.png", "JPEG")):
        yield picture(f"{kind} called {name}", partial(saved, name, quarters, format=kind), lossy)
    for name, kind in (("a.mp4", "PNG"), ("a.txt", "WEBP"), ("a.heic", "JPEG"), ("a.gif", "TIFF"), ("A.PNG", "BMP")):
        yield picture(f"{kind} called {name}", partial(saved, name, quarters, format=kind), lossy)
    for name in ("clip.png", "clip.jpg", "clip.gif"):
        yield picture(f"a video called {name}", partial(clip_called, name), Frames(3, (WIDTH, HEIGHT)))
    twice = {(2 * x, 2 * y): colour for (x, y), colour in QUARTERS.items()}
    yield picture("HEIC", tiled, Frames(1, (2 * WIDTH, 2 * HEIGHT), twice, within=12))
    yield picture(
        "HEIC, one tile is missing",
        partial(tiled, leave_out=1),
        Says("a.heic is a photo of tiles that cannot be put together"),
    )
    yield picture("HEIC, one frame", partial(coded, b"heic"), Frames(1, (WIDTH, HEIGHT)))
    yield picture("HEIC that moves", partial(coded, b"hevc"), Frames(3, (WIDTH, HEIGHT)))
    yield picture("JPEG, progressive", partial(saved, "a.jpg", quarters, progressive=True), lossy)
    yield picture("1x1", partial(saved, "a.png", lambda: Image.new("RGB", (1, 1), RED)), Frames(size=(1, 1)))
    yield picture("one line", partial(saved, "a.png", lambda: Image.new("L", (9000, 1))), Frames(size=(9000, 1)))


def _modes() -> Iterator[Case]:
    def of(mode: str) -> Callable[[], Image.Image]:
        return lambda: quarters().convert(mode)

    shades = ((76, 76, 76), (150, 150, 150), (29, 29, 29), WHITE)
    grey = dict(zip(PLACES, shades, strict=True))
    yield picture("grey", partial(saved, "a.png", of("L")), Frames(colours=grey))
    yield picture("black and white", partial(saved, "a.png", lambda: Image.new("1", (8, 8), 1)), Frames(size=(8, 8)))
    yield picture("palette", partial(saved, "a.png", lambda: quarters().quantize()), Frames(colours=QUARTERS))
    yield picture("CMYK, JPEG", partial(saved, "a.jpg", of("CMYK"), quality=100), Frames(colours=QUARTERS, within=6))
    yield picture("opaque", partial(saved, "a.png", lambda: clear(255)), Frames(colours=QUARTERS))
    half = dict(zip(PLACES, ((255, 127, 127), (127, 255, 127), (127, 127, 255), WHITE), strict=True))
    for suffix in ("png", "webp", "tif"):
        how = {"lossless": True} if suffix == "webp" else {}
        right = Frames(colours=half)
        yield picture(f"half transparent, {suffix}", partial(saved, f"a.{suffix}", lambda: clear(128), **how), right)
    empty = dict.fromkeys(PLACES, WHITE)
    yield picture("all transparent", partial(saved, "a.png", lambda: clear(0)), Frames(colours=empty))
    yield picture("grey and half transparent", partial(saved, "a.png", lambda: clear(128).convert("LA")), Frames())
    one = {PLACES[0]: WHITE, PLACES[1]: LIME}
    yield picture("one colour is transparent", partial(saved, "a.png", quarters, transparency=RED), Frames(colours=one))
    deep = np.asarray(quarters())[..., ::-1].astype(np.uint16) * 257
    for suffix in ("png", "tif"):
        right = Frames(colours=QUARTERS)
        yield picture(f"16 bits a colour, {suffix}", partial(by_opencv, f"a.{suffix}", deep), right)
    opaque = np.dstack([deep, np.full((HEIGHT, WIDTH), 32896, np.uint16)])
    yield picture("16 bits and half transparent", partial(by_opencv, "a.png", opaque), Frames(colours=half))
    yield picture("16 bits of grey", partial(by_opencv, "a.png", deep[..., 1]), Frames(colours={PLACES[1]: WHITE}))
    numbers = np.asarray(quarters()).astype(np.float32)
    yield picture("fractions", partial(by_opencv, "a.tif", numbers), Says("not a picture that can be read"))


def _profiles() -> Iterator[Case]:
    swapped = dict(zip(PLACES, (LIME, RED, BLUE, WHITE), strict=True))
    for suffix in ("png", "jpg", "tif", "webp"):
        how = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
        make = partial(saved, f"a.{suffix}", quarters, icc_profile=swapped_profile(), **how)
        yield picture(f"profile, {suffix}", make, Frames(colours=swapped, within=6))
    clean = partial(saved, "a.png", lambda: clear(0), icc_profile=swapped_profile())
    yield picture("profile and transparent", clean, Frames(colours=dict.fromkeys(PLACES, WHITE)))
    damaged = partial(saved, "a.png", quarters, icc_profile=b"no profile at all")
    yield picture("profile, damaged", damaged, Frames(colours=QUARTERS))
    foreign = partial(saved, "a.png", lambda: Image.new("L", (8, 8), 90), icc_profile=swapped_profile())
    yield picture("profile of colours on grey", foreign, Frames(colours={(4, 4): (90, 90, 90)}))


def _orientations() -> Iterator[Case]:
    upright = Frames(size=(WIDTH, HEIGHT), colours=QUARTERS, within=6)
    for orientation in STORED:
        yield picture(f"JPEG, orientation {orientation}", partial(turned, "a.jpg", orientation, "RGB"), upright)
    for suffix in ("png", "webp", "tif"):
        yield picture(f"{suffix}, orientation 6", partial(turned, f"a.{suffix}", 6, "RGB"), upright)
    yield picture("with opacity, orientation 6", partial(turned, "a.png", 6, "RGBA"), upright)


def _moving() -> Iterator[Case]:
    times, reds = (0.0, 0.2, 0.4, 0.6), ((10, 0, 0), (90, 0, 0), (170, 0, 0), (250, 0, 0))
    right = Frames(4, (WIDTH, HEIGHT), within=3, firsts=reds, times=times)
    yield picture("GIF that moves", partial(moving, "a.gif"), right)
    yield picture("PNG that moves", partial(moving, "a.png"), right)
    yield picture("WebP that moves", partial(moving, "a.webp", lossless=True), right)
    yield picture("GIF that moves, called .mp4", partial(moving, "a.mp4", format="GIF"), right)
    said = "a.gif is damaged or cut short: . pictures were read"
    yield picture("GIF that moves, cut off", partial(moving, "a.gif", share=0.6), Frames(2, said=said))
    yield picture("GIF of which nothing is there", partial(moving, "a.gif", share=0.05), Says("a.gif .*read"))


def _damaged() -> Iterator[Case]:
    unreadable = Says("is not a picture that can be read")
    for suffix in ("jpg", "png", "webp", "tif", "bmp"):
        yield picture(f"{suffix}, half of it", partial(cut, f"a.{suffix}", 0.5), unreadable)
    yield picture("JPEG, all but the end", partial(cut, "a.jpg", 0.98), unreadable)
    yield picture("empty", partial(written, "a.png", b""), Says(r"is empty \(0 bytes\)"))
    yield picture("a letter", partial(written, "a.png", b"Dear reader, this is no picture."), unreadable)
    yield picture("beginning of a PNG, then noise", partial(written, "a.png", b"\x89PNG\r\n\x1a\n" * 9), unreadable)
    yield picture("beginning of a JPEG, then noise", partial(written, "a.jpg", b"\xff\xd8\xff\xe0" * 9), unreadable)
    large = b"P6 100000 100000 255\n"
    yield picture("a header of 10,000 million pixels", partial(written, "a.ppm", large), Says("100000x100000 pixels"))
    yield picture("a header of no pixels", partial(written, "a.ppm", b"P6 0 0 255\n"), unreadable)
    yield picture("missing", lambda folder: folder / "a.png", Says("No such file"))
    if sys.platform != "win32":
        yield picture("a pipe", partial(pipe, "a.png"), Says("it is no ordinary file"))
        yield picture("a device", partial(linked, "a.png", "/dev/zero"), Says("it is no ordinary file"))
        yield picture("a link to nothing", partial(linked, "a.png", "nothing"), Says("No such file"))
        yield picture("a link to itself", partial(linked, "a.png", "a.png"), Says("symbolic links"))


def _filled(files: dict[str, bytes | None], folder: Path) -> Path:
    """A folder with these files; None stands for a folder in it."""
    for name, content in files.items():
        if content is None:
            (folder / name).mkdir()
        else:
            written(name, content, folder)
    return folder


def _bytes(kind: str, shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def _moving_bytes() -> bytes:
    file = io.BytesIO()
    shades = [Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)) for shade in (10, 90)]
    shades[0].save(file, "WEBP", save_all=True, append_images=shades[1:], lossless=True)
    return file.getvalue()


def _folders() -> Iterator[Case]:
    png, jpeg = _bytes("PNG"), _bytes("JPEG")
    shadow = b"\0\5\26\7" + bytes(4000)
    one_left = "notes.txt is no picture and was left out"
    cases: dict[str, tuple[dict[str, bytes | None], Frames | Says]] = {
        "pictures": ({"1.png": png, "2.png": png}, Frames(2)),
        "every kind": ({"1.jpg": jpeg, "2.jfif": jpeg, "3.gif": _bytes("GIF"), "4": png}, Frames(4)),
        "one that moves": ({"1.png": png, "2.webp": _moving_bytes()}, Frames(2)),
        "wrong names": ({"1.jpg": png, "2.png": jpeg, "3.dat": png}, Frames(3)),
        "natural order": (
            {"10.png": _bytes("PNG", 30), "9.png": _bytes("PNG", 20), "1.png": _bytes("PNG", 10)},
            Frames(3, firsts=((10, 0, 0), (20, 0, 0), (30, 0, 0))),
        ),
        "shadows of macOS": ({"1.jpg": jpeg, "._1.jpg": shadow, ".DS_Store": b"Bud1"}, Frames(1)),
        "thumbnails of Windows": ({"1.jpg": jpeg, "Thumbs.db": b"\xd0\xcf", "desktop.ini": b"[x]"}, Frames(1)),
        "a text beside": ({"1.png": png, "notes.txt": b"hello"}, Frames(1, said=one_left)),
        "a folder beside": ({"1.png": png, "more": None}, Frames(1, said="more/ is no picture")),
        "many others": (
            {"1.png": png, **{f"{number}.txt": b"x" for number in range(5)}},
            Frames(1, said="5 other things in it are no pictures and were left out: 0.txt, 1.txt, 2.txt and 2 more"),
        ),
        "one damaged": ({"1.png": png, "2.png": png[:40]}, Frames(1, said="2.png could not be read")),
        "one empty": ({"1.png": b"", "2.png": png}, Frames(1, said="1.png could not be read")),
        "damaged and others": (
            {"1.png": png, "2.png": b"x", "notes.txt": b"x"},
            Frames(1, said=f"2.png could not be read and was left out. {one_left}"),
        ),
        "all damaged": ({"1.png": b"x", "2.png": b"x"}, Says("None of the 2 pictures in .* can be read")),
        "the only one damaged": ({"1.png": b"x"}, Says("1.png, the only picture in .*, cannot be read")),
        "nothing": ({}, Says("has no pictures in it")),
        "nothing but others": ({"notes.txt": b"x"}, Says("has no pictures in it; notes.txt is no picture")),
        "nothing but shadows": ({"._1.jpg": shadow}, Says("has no pictures in it")),
        "sizes that differ": ({"1.png": png, "2.bmp": _bytes("BMP")}, Frames(2, (WIDTH, HEIGHT))),
    }
    for name, (files, right) in cases.items():
        yield Case("folder", name, partial(_filled, files), right)
    if sys.platform != "win32":
        piped = Frames(1, said="2.png could not be read")
        yield Case("folder", "a pipe", lambda folder: pipe("2.png", _filled({"1.png": png}, folder)).parent, piped)


CASES: tuple[Case, ...] = (
    *_formats(),
    *_modes(),
    *_profiles(),
    *_orientations(),
    *_moving(),
    *_damaged(),
    *_folders(),
)
