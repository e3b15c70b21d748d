"""Pictures as a source: one image file, or a folder of them in natural order."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from app.frame import Frame
from app.sources.base import SourceError
from app.sources.generated import GeneratedSource

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
FOLDER_FPS = 24.0


class ImageSource(GeneratedSource):
    """One picture: a single frame, or, when live, the same picture over and over at ``fps``."""

    def __init__(self, path: str | Path, *, live: bool = False, fps: float = FOLDER_FPS) -> None:
        self._path = Path(path)
        super().__init__(self._path.name, fps=fps, frames=None if live else 1, live=live)
        self.fps = fps if live else None
        self._pixels: np.ndarray | None = None

    def open(self) -> None:
        """Read the picture. Raises ``SourceError`` where it is missing or not a picture."""
        self._pixels = read_image(self._path)
        super().open()

    def read(self) -> Frame | None:
        """The picture; None after the only frame of a still, before ``open``, or after ``close``."""
        return None if self._pixels is None else super().read()

    def picture(self, _: int, /) -> np.ndarray:
        """The same each time."""
        assert self._pixels is not None
        return self._pixels


class ImageFolderSource:
    """Every picture of a folder in natural order (2 before 10), as a clip of ``fps`` frames a second.

    A picture that cannot be read is left out, and ``lost`` then says which.
    """

    def __init__(self, folder: str | Path, *, fps: float = FOLDER_FPS) -> None:
        self._folder = Path(folder)
        self.name = f"{self._folder.name or self._folder}/"
        self.live = False
        self.fps: float | None = fps
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._paths: list[Path] = []
        self._next = 0
        self._index = 0
        self._unread: list[str] = []
        self._closing = threading.Event()

    def open(self) -> None:
        """List the pictures. Raises ``SourceError`` where there is no folder, or no picture in it."""
        try:
            entries = sorted(self._folder.iterdir(), key=lambda path: natural_key(path.name))
        except OSError as error:
            raise SourceError(f"The folder {self._folder} cannot be read: {error.strerror}.") from error
        self._paths = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        if not self._paths:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(f"The folder {self._folder} has no pictures in it ({kinds}).")
        self.frame_count = len(self._paths)
        self.lost = None
        self._next = self._index = 0
        self._unread = []
        self._closing.clear()

    def read(self) -> Frame | None:
        """The next picture that can be read; None at the end. Raises ``SourceError`` where none could be."""
        while self._next < len(self._paths) and not self._closing.is_set():
            path = self._paths[self._next]
            self._next += 1
            try:
                pixels = read_image(path)
            except SourceError:
                self._unread.append(path.name)
                self.lost = _left_out(self._unread)
                continue
            index = self._index
            self._index += 1
            media_time = index / self.fps if self.fps else None
            return Frame(index, time.monotonic(), pixels, media_time=media_time)
        if not self._index and self._unread and not self._closing.is_set():
            raise SourceError(f"None of the {len(self._unread)} pictures in {self._folder} can be read.")
        return None

    def close(self) -> None:
        """End the stream."""
        self._closing.set()


def read_image(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8 RGB, turned upright as its EXIF data asks.

    Raises:
        SourceError: the file is missing, empty or not a picture.
    """
    try:
        data = path.read_bytes()  # not cv2.imread: on Windows that fails on names outside the code page
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise SourceError(f"{path} is empty (0 bytes).")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise SourceError(f"{path} is not a picture that can be read.") from error
    if pixels is None:
        raise SourceError(f"{path} is not a picture that can be read.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count as numbers: ``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _left_out(names: list[str]) -> str:
    """One sentence on the pictures that could not be read."""
    if len(names) == 1:
        return f"{names[0]} could not be read and was left out."
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} pictures could not be read and were left out: {listed}"
