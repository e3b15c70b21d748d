"""Picture files that a person names in a setting: upright, on white paper, as a tensor."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.models.errors import ModelError, first_line
from pipeline.user_path import is_file

if TYPE_CHECKING:
    from PIL import Image

# The largest cameras of phones take 200 million; a file of more is made to fill the memory.
MOST_PIXELS = 2**28
_LARGEST_FILE = 2**29
# Formats of pictures alone: Pillow also knows some that run other programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
_SIXTEEN_BITS = 2**16 - 1


def read_reference(path: Path) -> torch.Tensor:
    """(3, H, W) in 0..1 of the picture in the file ``path``; of one that moves, the first.

    It stands as its file says that it is to be shown, and where it is transparent it is white.

    Raises:
        ModelError: the file is missing, damaged, no picture, or too large.
    """
    if not is_file(path):
        raise ModelError(f"there is no picture {str(path)!r}: give a file, as in face.png")
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LARGEST_FILE else None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if data is None:
        raise ModelError(f"{path} is too large for a picture: it has {size / 1e9:.3g} GB; give a smaller one")
    try:
        pixels = _pixels(path, data)
    except ModelError:
        raise
    except Exception as error:  # what Pillow raises for damaged files is not to be listed
        raise ModelError(f"{path} is not a picture that can be read ({first_line(error)}); give another") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)


def _pixels(path: Path, data: bytes) -> np.ndarray:
    """(H, W, 3) uint8."""
    from PIL import Image, ImageOps

    Image.init()
    with Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN]) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ModelError(
                f"{path} is {picture.width}x{picture.height} pixels large; pictures of up to "
                f"{MOST_PIXELS // 10**6} million can be read"
            )
        upright = ImageOps.exif_transpose(_in_eight_bits(picture))
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return np.array(upright.convert("RGB"))


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey pictures of 16 bits would be cut off at 255, not scaled."""
    if not picture.mode.startswith("I"):
        return picture
    from PIL import Image

    grey = np.asarray(picture, np.float32) * (255 / _SIXTEEN_BITS)
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
