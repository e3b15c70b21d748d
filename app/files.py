"""Files by their paths: where pictures and recordings go, names that are not taken, and how files are read."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import platformdirs

NOT_ORDINARY = "it is no ordinary file"


class TooLargeError(OSError):
    """The file is larger than anything of its kind."""


def read_whole(path: Path, most: int) -> bytes:
    """All of an ordinary file, which never waits: a pipe or a device is none.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        TooLargeError: it has more.
        OSError: it is missing, no ordinary file, or cannot be read. ``strerror`` says so in half a sentence.
    """
    with open_ordinary(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise TooLargeError(errno.EFBIG, f"it is larger than {_size(most)}", str(path))
    return data


def open_ordinary(path: Path) -> BinaryIO:
    """Open an ordinary file to read its bytes. Raises ``OSError`` as ``read_whole`` does."""

    def without_waiting(name: str, flags: int) -> int:
        # A pipe that nobody writes to would hold up whoever opens it, until somebody does.
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 - whoever asked for it closes it
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, "this cannot be the name of a file", str(path)) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
    return file


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"


def recordings_folder() -> Path:
    """``Vitrail`` in the user's folder for videos; it need not be there yet."""
    return Path(platformdirs.user_videos_dir()) / "Vitrail"


def snapshots_folder() -> Path:
    """``Vitrail`` in the user's folder for pictures; it need not be there yet."""
    return Path(platformdirs.user_pictures_dir()) / "Vitrail"


def names(folder: Path, suffix: str, when: datetime | None = None) -> Iterator[Path]:
    """Without end: ``Vitrail 2026-11-22 at 18.04.05.mp4``, then the same with `` (2)``, `` (3)`` ...

    Args:
        folder: the paths lie in it.
        suffix: of the file, with its dot.
        when: local time; now, by default.
    """
    # No colons: Windows does not allow them in a name.
    stem = f"Vitrail {when or datetime.now():%Y-%m-%d at %H.%M.%S}"
    yield folder / f"{stem}{suffix}"
    for number in itertools.count(2):
        yield folder / f"{stem} ({number}){suffix}"
