"""Picture files: what a file is by its content, and its pixels as a screen shows them.

Pixels mean what the file says of them: a colour profile is carried out, what is transparent shows the paper below, and
the picture stands upright. Everyone who reads a picture reads it here, and writes it here.
"""

from __future__ import annotations

import io
import logging
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np

from pipeline.whole_files import TooLargeError, open_ordinary, read_whole, write_whole

if TYPE_CHECKING:  # the window opens without Pillow and torch
    import torch
    from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of the formats that pictures are written in
TRANSPARENT_SUFFIXES = (".png", ".webp")  # of those that carry how opaque a picture is
PAPER = (255, 255, 255)
# The largest cameras of phones take 200 million.
MOST_PIXELS = 2**28
_LARGEST_FILE = 2**30

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
# Pillow reads these alone, and all that move; the others are OpenCV's while they are opaque and without a profile.
_PILLOW_ALONE = ("GIF", "AVIF")

_MAGIC = (b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", *(b"P%d" % number for number in range(1, 7)))
_MOVING_MAGIC = (b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")
# The beginnings of containers: Matroska, Ogg, Flash, MPEG, Windows Media.
_CLIPS = (b"\x1a\x45\xdf\xa3", b"OggS", b"FLV", b"\0\0\1\xba", b"\0\0\1\xb3", b"\x30\x26\xb2\x75")
# Of the formats that begin with a box ``ftyp``: those that hold one picture (ISO/IEC 23008-12, annex B; AVIF).
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"avif")
_PACKET_BYTES = 188  # of an MPEG transport stream; each packet begins with the letter G
_HEAD_BYTES = _PACKET_BYTES + 1


class PictureError(Exception):
    """The file cannot be read as a picture. The message is one sentence for the user."""


class Kind(Enum):
    """What a file holds, told by its content."""

    STILL = "one picture"
    ANIMATED = "pictures that move"
    CODED = "one picture, coded as a frame of a video is (HEIC, and AVIF where Pillow does not read it)"
    CLIP = "a video"
    UNKNOWN = "something else, or nothing"


def kind_of(path: Path) -> Kind:
    """What is in the file; ``UNKNOWN`` as well where it is missing, empty, or cannot be read."""
    try:
        with open_ordinary(path) as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(_MAGIC):
                return Kind.STILL
            if _is_clip(head):
                return Kind.CLIP
            if head.startswith(_MOVING_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
                return Kind.ANIMATED if _is_animated(file) else Kind.STILL
    except OSError:
        return Kind.UNKNOWN
    if head[4:8] == b"ftyp":
        if head[8:12] not in _STILL_BRANDS:
            return Kind.CLIP
        return Kind.STILL if head[8:12] == b"avif" and "AVIF" in _known_formats() else Kind.CODED
    return Kind.UNKNOWN


def read_picture(path: Path) -> np.ndarray:
    """The picture, or the first of those that move, as (H, W, 3) uint8 RGB in sRGB, upright, on white paper.

    ``Kind.CODED`` is not read here.

    Raises:
        PictureError: the file is missing, empty, damaged, no picture, or too large.
    """
    try:
        data = read_whole(path, _LARGEST_FILE)
    except TooLargeError as error:
        raise PictureError(f"{path} is too large for a picture: {error.strerror}.") from error
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise PictureError(f"{path} is empty (0 bytes).")
    try:
        with open_picture(io.BytesIO(data)) as picture:
            alone = picture.format in _PILLOW_ALONE or getattr(picture, "is_animated", False)
            if alone or has_opacity(picture) or _profile_of(picture) is not None:
                return shown(_upright(picture))
    except TooManyPixelsError as error:
        raise PictureError(f"{path} is {error}.") from error
    except Exception as error:  # noqa: BLE001 - what Pillow raises for damaged files is not to be listed
        logger.debug("Pillow cannot read %s: %s", path, error)
    try:
        # OpenCV reads more kinds of numbers than Pillow does: 16 bits a colour, for instance.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise PictureError(f"{path} is not a picture that can be read.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def picture_tensor(path: Path) -> torch.Tensor:
    """``read_picture`` as (3, H, W) float32 in 0..1. Raises ``PictureError``."""
    import torch

    return torch.from_numpy(read_picture(path)).permute(2, 0, 1).float().div(255)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix, one of ``WRITTEN_SUFFIXES``, whole or not at all.

    Those of ``TRANSPARENT_SUFFIXES`` also take (H, W, 4), with straight opacity.

    Raises:
        OSError: the disk does not take it; an old picture is as it was.
    """
    order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    done, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(pixels, order))
    if not done:
        raise OSError(f"the picture cannot be encoded as {path.suffix}")
    write_whole(path, data.tobytes())  # not cv2.imwrite: on Windows that fails on names outside the code page


class TooManyPixelsError(Exception):
    """The picture has more than ``MOST_PIXELS``. The message continues a sentence that begins with its name."""


def open_picture(file: BinaryIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The picture in ``file``, of which nothing but the beginning is read yet.

    Args:
        file: at its beginning.
        formats: those that it may be of, by Pillow's names; all that are known here by default.

    Raises:
        TooManyPixelsError: it has more than ``MOST_PIXELS``.
        Exception: whatever else Pillow raises for what is no picture.
    """
    known = _known_formats()
    from PIL import Image

    picture = Image.open(file, formats=formats or known)
    if picture.width * picture.height > MOST_PIXELS:
        most = f"pictures of up to {MOST_PIXELS // 10**6} million can be read"
        raise TooManyPixelsError(f"{picture.width}x{picture.height} pixels large; {most}")
    return picture


def has_opacity(picture: Image.Image) -> bool:
    """Whether any pixel may be transparent."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def shown(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what a screen shows: in sRGB, and on white paper where there is nothing."""
    from PIL import Image

    colours = _in_srgb(picture)
    if has_opacity(picture):
        paper = Image.new("RGB", picture.size, PAPER)
        paper.paste(colours, mask=picture.convert("RGBA").getchannel("A"))
        colours = paper
    return np.array(colours)


def _in_srgb(picture: Image.Image) -> Image.Image:
    """The colours without their opacity, in mode RGB."""
    from PIL import Image, ImageCms

    if picture.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(picture, np.uint32) / 257
        plain = Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    elif picture.mode in ("CMYK", "L", "RGB"):
        plain = picture
    else:
        plain = picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
    profile = _profile_of(picture)
    if profile is not None:
        try:
            return _converted(plain, profile)
        except ImageCms.PyCMSError as error:  # a profile of another number of colours, for instance
            logger.debug("the colour profile is left out: %s", error)
    return plain.convert("RGB")


def _converted(picture: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """By the profile (ICC.1) to sRGB, as pictures are meant to be seen (its perceptual intent)."""
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(picture, profile, srgb, outputMode="RGB")
    assert made is not None  # it is so only where the picture is converted in place
    return made


def _profile_of(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The colour profile; None where there is none, where it is damaged, and where it is sRGB anyway."""
    data = picture.info.get("icc_profile")
    if not data:
        return None
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile
    except (OSError, ImageCms.PyCMSError) as error:
        logger.debug("the colour profile is damaged: %s", error)
        return None


def _upright(picture: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


@cache
def _known_formats() -> tuple[str, ...]:
    """Those of ``_FORMATS`` that this Pillow reads."""
    from PIL import Image

    # Pillow only warns of pictures that fill the memory, and not of all of them; ``MOST_PIXELS`` is checked instead.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _is_clip(head: bytes) -> bool:
    transport = head[:1] == b"G" == head[_PACKET_BYTES:]
    return head.startswith(_CLIPS) or transport or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _is_animated(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        with open_picture(file) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # noqa: BLE001 - whoever reads the pixels says what is the matter
        return False
