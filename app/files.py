"""Files by their paths: where pictures and recordings go, names that are not taken, and what is put aside."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import platformdirs

from pipeline.user_path import is_file, real_path
from pipeline.whole_files import NAME_LETTERS, beside

_DRAFT_SECONDS = 3600.0


def remove_old_drafts(folder: Path, beginning: str) -> None:
    """Remove what processes left that were killed while they wrote, whole, files of ``folder``.

    Args:
        folder: of the files.
        beginning: of the names of those files.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(f".{beginning[:NAME_LETTERS]}") and entry.name.endswith(".part"):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _DRAFT_SECONDS:
                        Path(entry.path).unlink()


def put_out_of_the_way(path: Path) -> Path:
    """Move a file that cannot be used to a name with ``.bad`` that nobody has, and give that. Raises ``OSError``."""
    endings = itertools.chain([".bad"], (f".{number}.bad" for number in itertools.count(2)))
    names = (path.with_name(path.name + ending) for ending in endings)
    free = next(name for name in names if not os.path.lexists(name))
    path.replace(free)
    return free


class SetAside:
    """The old file of a path, out of the way while a new one is begun there; it returns where nothing comes of that.

    This is for files that are written over minutes, and may be looked at meanwhile; others are written whole. A link
    is followed, and stays. What is no ordinary file is left where it is.

    Args:
        path: where the new file will be; there need not be an old one.

    Raises:
        OSError: the old file cannot be moved, and is as it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(real_path(path))
        self._old: Path | None = None
        if is_file(self._path):
            old = beside(self._path, "old")
            self._path.replace(old)
            self._old = old

    def drop(self) -> None:
        """Remove the old file: the new one has begun."""
        if self._old is not None:
            with contextlib.suppress(OSError):
                self._old.unlink()

    def put_back(self) -> None:
        """Have all as it was: the old file in its place, or none. Raises ``OSError`` where that cannot be done."""
        if self._old is not None:
            self._old.replace(self._path)
        elif is_file(self._path):
            self._path.unlink()


def recordings_folder() -> Path:
    """``Vitrail`` in the user's folder for videos; it need not be there yet."""
    return Path(platformdirs.user_videos_dir()) / "Vitrail"


def snapshots_folder() -> Path:
    """``Vitrail`` in the user's folder for pictures; it need not be there yet."""
    return Path(platformdirs.user_pictures_dir()) / "Vitrail"


def references_folder() -> Path:
    """Where frames are kept that pictures are to look like: in the user's data folder; it need not be there yet."""
    return Path(platformdirs.user_data_dir("vitrail", appauthor=False)) / "references"


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
