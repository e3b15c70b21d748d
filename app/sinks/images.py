"""Frames into pictures: a folder of numbered PNG files, or a single one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from app.files import remove_old_drafts
from app.frame import Frame
from app.opacity import opaque, with_alpha
from app.sinks.base import SinkError
from app.sinks.watch import require_file
from pipeline.picture_file import TRANSPARENT_SUFFIXES, WRITTEN_SUFFIXES, write_picture
from pipeline.user_path import is_folder

NUMBERED = re.compile(r"frame_([0-9]{6,})\.png")  # names of the pictures in a folder


class ImageFolderSink:
    """Numbers the frames from 1: ``frame_000001.png`` and so on. The folder is made where its parent is there.

    Pictures with those names are replaced; those with higher numbers stay as they are.

    Attributes:
        older: how many numbered pictures of earlier times stayed in the folder; known once it is closed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.older = 0
        self._folder = Path(folder)
        self.name = f"pictures to {self._folder.name}/"
        self._opened = False
        self._written = 0

    def open(self) -> None:
        """Make the folder. Raises ``SinkError`` where that cannot be done."""
        try:
            self._folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise SinkError(f"{self._folder} is a file; give a folder for the pictures.") from error
        except OSError as error:
            raise SinkError(f"The folder {self._folder} cannot be made: {error.strerror}.") from error
        remove_old_drafts(self._folder, "frame_")
        self._opened, self._written = True, 0

    def write(self, frame: Frame) -> None:
        """Write the next picture. Raises ``SinkError`` where the disk does not take it."""
        write_image(self._picture(self._written + 1), with_alpha(frame))
        self._written += 1

    def close(self) -> None:
        """See that the pictures are there; every one is complete once written. Raises ``SinkError`` if one is not."""
        if not self._opened:
            return
        self._opened = False
        self.older = sum(number > self._written for number in self._numbers())
        for number in range(1, self._written + 1):
            require_file(self._picture(number))

    def _numbers(self) -> list[int]:
        """Those of the pictures in the folder."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:  # it is gone, or can no longer be read
            return []
        return [int(found[1]) for name in names if (found := NUMBERED.fullmatch(name))]

    def _picture(self, number: int) -> Path:
        return self._folder / f"frame_{number:06d}.png"


class ImageSink:
    """One picture, replaced by every further frame: at the end it shows the last.

    Attributes:
        lost: one sentence on what a file of this kind cannot carry; else None.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.name = f"picture to {self._path.name}"
        self.lost: str | None = None
        self._written = False

    def open(self) -> None:
        """Check the name and the folder. Raises ``SinkError`` where no picture can be written there."""
        if self._path.suffix.lower() not in WRITTEN_SUFFIXES:
            kinds = ", ".join(WRITTEN_SUFFIXES)
            raise SinkError(f"{self._path.name} is not a kind of picture that can be written; use one of {kinds}.")
        if not is_folder(self._path.parent):
            raise SinkError(f"{self._path} cannot be written: there is no folder {self._path.parent}.")
        remove_old_drafts(self._path.parent, f"{self._path.name}.")

    def write(self, frame: Frame) -> None:
        """Write the picture. Raises ``SinkError`` where the disk does not take it."""
        carries = self._path.suffix.lower() in TRANSPARENT_SUFFIXES
        if frame.alpha is not None and not carries:
            self.lost = f"{self._path.name} cannot be transparent, so it is green behind the person; .png can."
        write_image(self._path, with_alpha(frame) if carries else opaque(frame))
        self._written = True

    def close(self) -> None:
        """See that the picture is there; it is complete once written. Raises ``SinkError`` where it is not."""
        written, self._written = self._written, False
        if written:
            require_file(self._path)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB in the format of the suffix, or (H, W, 4) where it takes that, whole or not at all.

    Raises:
        SinkError: the disk does not take it; an old picture is as it was.
    """
    try:
        write_picture(path, pixels)
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}.") from error
