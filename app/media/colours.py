"""From a decoded frame to RGB: what its numbers mean, by what the file says or else by its size."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from app.media.dynamic_range import is_beyond, to_sdr
from app.media.graphs import Filter

_TABLE_SIZE = 49  # colours on each side of the table; what lies between is interpolated, by some levels at the edges

# By the numbers of ITU-T H.273.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


class ToRgb:
    """Frames to (H, W, 3) uint8 RGB in BT.709. One serves a whole film, as to prepare each frame anew takes time."""

    def __init__(self) -> None:
        self._convert = VideoReformatter()
        self._table: Filter | None = None
        self._kind = (0, 0)

    def __call__(self, frame: av.VideoFrame, width: int) -> np.ndarray:
        """The picture, ``width`` wide; its height stays."""
        kind = (frame.color_trc, frame.color_primaries)
        if not is_beyond(*kind):
            return self._convert.reformat(frame, width=width, format="rgb24", **_meaning(frame)).to_ndarray()
        wide = self._convert.reformat(frame, width=width, format="gbrp16le", **_meaning(frame))
        wide.time_base = frame.time_base
        if self._table is None or kind != self._kind or not self._table.fits(wide):
            self._table, self._kind = _table_filter(wide, *kind), kind
        (graded,) = self._table(wide)
        return _high_bytes(graded)


class _Meaning(TypedDict, total=False):
    src_colorspace: Colorspace
    src_color_range: ColorRange


def _meaning(frame: av.VideoFrame) -> _Meaning:
    """How the frame's YUV is meant; where the file does not say, HD is BT.709 and the rest BT.601, as in players."""
    if frame.format.is_rgb:
        return {}
    matrix = _MATRICES.get(frame.colorspace, Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return {"src_colorspace": matrix, "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG}


def _high_bytes(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a frame in ``gbrp16le``: planes of green, blue and red, each number its low byte first."""
    pixels = np.empty((frame.height, frame.width, 3), np.uint8)
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        lines = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
        pixels[..., channel] = lines[: frame.height, 1 : 2 * frame.width : 2]
    return pixels


def _table_filter(like: av.VideoFrame, transfer: int, primaries: int) -> Filter:
    """``to_sdr`` as a table in FFmpeg's filter ``lut3d``, a hundred times as fast; it takes tables from files only."""
    with tempfile.TemporaryDirectory(prefix="vitrail-") as folder:
        path = Path(folder) / "table.cube"
        path.write_text(_table(transfer, primaries))
        return Filter(like, "lut3d", file=str(path), interp="tetrahedral")


@lru_cache(maxsize=4)
def _table(transfer: int, primaries: int) -> str:
    """``to_sdr`` in the format ".cube", in which red changes fastest."""
    side = np.linspace(0, 1, _TABLE_SIZE)
    blue, green, red = np.meshgrid(side, side, side, indexing="ij")
    found = to_sdr(np.stack((red, green, blue), axis=-1).reshape(-1, 3), transfer, primaries)
    return f"LUT_3D_SIZE {_TABLE_SIZE}\n" + ("%.4f %.4f %.4f\n" * len(found)) % tuple(found.ravel())
