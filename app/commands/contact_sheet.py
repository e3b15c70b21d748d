"""A picture of chosen moments: what came in above what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from app.frame import Frame
from app.opacity import opaque
from app.sinks.images import write_image
from app.sinks.video import check_writable

_MARGIN = 16
_CAPTION_HEIGHT = 40
_PAPER = (250, 248, 244)
_INK = (40, 38, 36)
_FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True, slots=True)
class Moment:
    """Frame ``index`` is to be shown, under ``caption``."""

    index: int
    caption: str


class ContactSheet:
    """A sink that keeps the frames of some moments and, at its end, writes them as one PNG.

    Args:
        path: of the picture.
        moments: which frames, from left to right.
    """

    def __init__(self, path: Path, moments: Sequence[Moment]) -> None:
        self.name = f"contact sheet {path.name}"
        self._path = path
        self._captions = {moment.index: moment.caption for moment in moments}
        self._columns: list[np.ndarray] = []

    def open(self) -> None:
        """Check that the file can be written. Raises ``SinkError``."""
        check_writable(self._path)

    def write(self, frame: Frame) -> None:
        """Keep the frame if it is one of the moments."""
        caption = self._captions.get(frame.index)
        if caption is not None:
            self._columns.append(column(_input_of(frame), opaque(frame), caption))

    def close(self) -> None:
        """Write the sheet of the moments that came. Raises ``SinkError``."""
        columns, self._columns = self._columns, []
        if columns:
            write_image(self._path, np.concatenate(columns, axis=1))


def column(before: np.ndarray, after: np.ndarray, caption: str) -> np.ndarray:
    """``before`` above ``after`` with a caption below, all (h, w, 3) uint8 RGB, on paper with a margin."""
    height, width = after.shape[:2]
    sheet = np.full((2 * height + 3 * _MARGIN + _CAPTION_HEIGHT, width + 2 * _MARGIN, 3), _PAPER, np.uint8)
    inside = slice(_MARGIN, _MARGIN + width)
    sheet[_MARGIN : _MARGIN + height, inside] = before
    sheet[2 * _MARGIN + height : 2 * (_MARGIN + height), inside] = after
    scale = 0.6
    (long, _), _ = cv2.getTextSize(caption, _FONT, scale, 1)
    scale *= min(1.0, width / max(1, long))
    baseline = sheet.shape[0] - _MARGIN - _CAPTION_HEIGHT // 4
    cv2.putText(sheet, caption, (_MARGIN, baseline), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return sheet


def _input_of(frame: Frame) -> np.ndarray:
    """The picture as the engine was given it: cut and sized like the result."""
    original = frame.original
    if original is None or original.tensor is None:
        return np.zeros_like(frame.pixels)
    return (original.tensor.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
