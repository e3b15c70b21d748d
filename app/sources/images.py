"""Pictures as a source: one image file, one that moves, or a folder of them in natural order."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from app.frame import Frame
from app.sources.base import SourceError
from app.sources.generated import GeneratedSource
from app.sources.pacing import Beat, wait_until
from app.sources.video import VideoSource
from pipeline.picture_file import Kind, PictureError, TooManyPixelsError, kind_of, open_picture, read_picture, shown
from pipeline.user_path import is_folder
from pipeline.whole_files import open_ordinary

if TYPE_CHECKING:
    from PIL import Image

# What pictures are usually called. A file is known by its content; by its name only where that tells nothing.
IMAGE_SUFFIXES = frozenset(
    f".{kind}"
    for kind in ("png jpg jpeg jpe jfif webp bmp tif tiff ppm pgm pbm heic heif avif").split()  # noqa: SIM905
)
FOLDER_FPS = 24.0

# What systems put beside people's files, of which nobody needs to hear.
_OF_THE_SYSTEM = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_SHORTEST_SECONDS = 0.02  # GIF's hundredths: browsers take 0 and 1 for a tenth of a second
_USUAL_SECONDS = 0.1
_CATCH_UP_SECONDS = 0.5  # a round held up for longer than this goes on from where it is, instead of racing


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


class AnimationSource:
    """The pictures of a GIF, PNG or WebP file that move, each at its time and on paper; again and again when live.

    FFmpeg reads some of these files, but drops what is transparent, and knows no moving WebP.
    """

    def __init__(self, path: str | Path, *, live: bool = False) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self.live = live
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._file: BinaryIO | None = None
        self._picture: Image.Image | None = None
        self._pictures: Iterator[tuple[float, np.ndarray]] = iter(())
        self._index = 0
        self._zero = 0.0  # when the present round began, and
        self._end = 0.0  # how many seconds of it there are so far
        self._closing = threading.Event()
        self._busy = threading.Lock()  # Pillow's object must not be closed while another thread decodes with it

    def open(self) -> None:
        """Read the beginning. Raises ``SourceError`` where it is no such file."""
        with self._busy:
            self._release()
            self._closing.clear()
            try:
                self._file = open_ordinary(self._path)
                self._picture = picture = open_picture(self._file)
                picture.load()  # a WebP file says only now how long its first picture is shown
                count = int(getattr(picture, "n_frames", 1))
                self.fps = 1.0 / _seconds(picture)
            except TooManyPixelsError as error:
                self._release()
                raise SourceError(f"{self._path} is {error}.") from error
            except Exception as error:  # what Pillow raises for damaged files is not to be listed
                self._release()
                why = getattr(error, "strerror", None) or "it is damaged"
                raise SourceError(f"{self._path} cannot be read: {why}.") from error
            self.frame_count = None if self.live else count
            self.lost = None
            self._index = 0
            self._begin(time.monotonic())

    def read(self) -> Frame | None:
        """The next picture, when live once its time has come. Raises ``SourceError`` where there is none at all."""
        with self._busy:
            while self._picture is not None and not self._closing.is_set():
                found = next(self._pictures, None)
                if found is None:
                    if not self.live or not self._end:
                        return None
                    self._begin(self._zero + self._end)
                    continue
                media_time, pixels = found
                if self.live and not wait_until(self._zero + media_time, self._closing):
                    return None
                index = self._index
                self._index += 1
                return Frame(index, time.monotonic(), pixels, media_time=None if self.live else media_time)
            return None

    def close(self) -> None:
        """Release the file; a waiting ``read`` returns None."""
        self._closing.set()
        with self._busy:
            self._release()

    def _begin(self, zero: float) -> None:
        self._zero, self._end = max(zero, time.monotonic() - _CATCH_UP_SECONDS), 0.0
        self._pictures = self._decoded()

    def _decoded(self) -> Iterator[tuple[float, np.ndarray]]:
        """Each picture with its media time in seconds; what breaks off is written to ``lost``."""
        from PIL import ImageSequence

        picture, found = self._picture, 0
        assert picture is not None
        try:
            for one in ImageSequence.Iterator(picture):
                pixels = shown(one)
                media_time, self._end = self._end, self._end + _seconds(one)
                found += 1
                yield media_time, pixels
        except Exception as error:  # what Pillow raises for damaged files is not to be listed
            if not found:
                raise SourceError(f"{self._path} has no picture that can be read.") from error
            self.lost = f"{self.name} is damaged or cut short: {found} pictures were read, the rest is lost."

    def _release(self) -> None:
        self._pictures = iter(())
        for held in (self._picture, self._file):
            if held is not None:
                held.close()
        self._picture = self._file = None


class ImageFolderSource:
    """Every picture of a folder in natural order (2 before 10), as a clip of ``fps`` frames a second.

    What cannot be read, and what is no picture, is left out, and ``lost`` then says which. When live, the pictures come
    at their pace, over and over.
    """

    def __init__(self, folder: str | Path, *, live: bool = False, fps: float = FOLDER_FPS) -> None:
        self._folder = Path(folder)
        self.name = f"{self._folder.name or self._folder}/"
        self.live = live
        self.fps: float | None = fps
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._period = 1.0 / fps
        self._beat = Beat(fps)
        self._paths: list[Path] = []
        self._others: list[str] = []
        self._next = 0
        self._index = 0
        self._unread: list[str] = []
        self._misses = 0  # pictures one after the other that could not be read

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files that are its frames, in order; none before ``open``."""
        return tuple(self._paths)

    def open(self) -> None:
        """List the pictures. Raises ``SourceError`` where there is no folder, or no picture in it."""
        self._paths, self._others = pictures_in(self._folder)
        if not self._paths:
            there = f"; {_left_out(self._others)}" if self._others else "."
            raise SourceError(f"The folder {self._folder} has no pictures in it{there}")
        self.frame_count = None if self.live else len(self._paths)
        self._next = self._index = 0
        self._unread = []
        self._misses = 0
        self._say()
        self._beat.start()

    def read(self) -> Frame | None:
        """The next picture that can be read; None at the end. Raises ``SourceError`` where none could be."""
        count = len(self._paths)
        while not self._beat.stopped and self._misses < count and (self.live or self._next < count):
            path = self._paths[self._next % count]
            self._next += 1
            try:
                pixels = read_image(path)
            except SourceError:
                self._misses += 1
                if path.name not in self._unread:
                    self._unread.append(path.name)
                self._say()
                continue
            if self.live and not self._beat.wait():
                return None
            self._misses = 0
            index = self._index
            self._index += 1
            media_time = None if self.live else index * self._period
            return Frame(index, time.monotonic(), pixels, media_time=media_time)
        if count and self._misses == count and not self._beat.stopped:
            if count == 1:
                raise SourceError(f"{self._paths[0].name}, the only picture in {self._folder}, cannot be read.")
            raise SourceError(f"None of the {count} pictures in {self._folder} can be read.")
        return None

    def close(self) -> None:
        """End the stream."""
        self._beat.stop()

    def _say(self) -> None:
        said = [_unread(self._unread)] if self._unread else []
        said += [f"{_left_out(self._others)}"] if self._others else []
        self.lost = " ".join(said) or None


def pictures_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures of a folder in natural order, and the names of what else is in it.

    What the system itself puts there is in neither: ``._IMG_1.jpg``, macOS's shadow of a picture on a foreign disk,
    ``.DS_Store``, ``Thumbs.db``.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    pictures, others = [], []
    for path in entries:
        if path.name.startswith("._") or path.name.casefold() in _OF_THE_SYSTEM:
            continue
        if is_folder(path):
            others.append(f"{path.name}/")
        elif path.suffix.lower() in IMAGE_SUFFIXES or kind_of(path) in (Kind.STILL, Kind.ANIMATED, Kind.CODED):
            pictures.append(path)
        else:
            others.append(path.name)
    return pictures, others


def read_image(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8 RGB in sRGB, upright, and on white paper where it is transparent.

    Raises:
        SourceError: the file is missing, empty or not a picture.
    """
    if kind_of(path) is Kind.CODED:
        return _first_frame(path)
    try:
        return read_picture(path)
    except PictureError as error:
        raise SourceError(str(error)) from error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count as numbers: ``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _first_frame(path: Path) -> np.ndarray:
    video = VideoSource(path)
    try:
        video.open()
        frame = video.read()
    finally:
        video.close()
    if frame is None:
        raise SourceError(f"{path} is not a picture that can be read.")
    return frame.pixels


def _seconds(picture: Image.Image) -> float:
    """How long a picture of several is shown."""
    seconds = float(picture.info.get("duration", 0)) / 1000
    return seconds if seconds >= _SHORTEST_SECONDS else _USUAL_SECONDS


def _unread(names: Sequence[str]) -> str:
    """One sentence on the pictures that could not be read."""
    if len(names) == 1:
        return f"{names[0]} could not be read and was left out."
    return f"{len(names)} pictures could not be read and were left out: {_listed(names)}."


def _left_out(names: Sequence[str]) -> str:
    """One sentence on what is no picture."""
    if len(names) == 1:
        return f"{names[0]} is no picture and was left out."
    return f"{len(names)} other things in it are no pictures and were left out: {_listed(names)}."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
