"""Pictures that stand behind the person: read beside the stream, and fitted to the size of its frames."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline.backdrop import Behind, parse_backdrop
from pipeline.config import StreamConfig
from pipeline.device import uploaded
from pipeline.models.errors import ModelError
from pipeline.picture_file import PictureError, read_picture
from pipeline.user_path import user_path

_KEPT = 4  # pictures, for whoever tries several in turn
_LONGEST_SIDE = 2048  # pixels in which one is kept


class BackgroundPictures:
    """The pictures of one stream's backgrounds. ``read`` may run on any thread, the rest on the stream's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pictures: OrderedDict[str, np.ndarray] = OrderedDict()
        self._fitted: tuple[str, tuple[int, int], torch.Tensor] | None = None

    def is_ready(self, config: StreamConfig) -> bool:
        """Whether the picture that ``config`` names, if it does, has been read."""
        path = _named(config)
        return not path or path in self._pictures

    def read(self, config: StreamConfig) -> None:
        """Read the picture that ``config`` names, where it has not been. Raises ``ModelError`` where it is none."""
        path = _named(config)
        if path and path not in self._pictures:
            self._pictures[path] = _read(user_path(path))
            while len(self._pictures) > _KEPT:
                self._pictures.popitem(last=False)

    def fitted(self, path: str, height: int, width: int) -> torch.Tensor:
        """(1, 3, height, width) float32 on the device: the picture ``path``, cut to this shape from its middle."""
        if self._fitted is None or self._fitted[:2] != (path, (height, width)):
            pixels = torch.from_numpy(_cut(self._pictures[path], height, width)).permute(2, 0, 1)[None]
            self._fitted = path, (height, width), uploaded(pixels.contiguous(), self._device).float().div_(255)
        return self._fitted[2]


def _named(config: StreamConfig) -> str:
    backdrop = parse_backdrop(config.background)
    return backdrop.path if backdrop.kind is Behind.PICTURE else ""


def _read(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB, upright. Raises ``ModelError``."""
    try:
        pixels = read_picture(path)
    except PictureError as error:
        what = "blur, none, a colour such as #00ff00, or a picture file"
        raise ModelError(f"the background {str(error).rstrip('.')}; give {what}") from error
    scale = _LONGEST_SIDE / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels


def _cut(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of ``pixels`` in this shape, as large as it fits, in this size."""
    high, wide = pixels.shape[:2]
    scale = max(height / high, width / wide)
    rows, columns = max(1, min(high, round(height / scale))), max(1, min(wide, round(width / scale)))
    top, left = (high - rows) // 2, (wide - columns) // 2
    part = pixels[top : top + rows, left : left + columns]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
