"""Temporary files of this process, all in one folder, which is gone once the process is, however it ended.

At an ordinary end the folder is removed. A process that was killed cannot do so: the next one that makes such a folder
removes it. It knows those that are in use by a lock, which the system lets go of with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX = "vitrail-run-"
_LOCK = "in-use"
_TRIES = 5

_guard = threading.Lock()  # of the folder below
_own: _Folder | None = None
_ended = False


class _Folder:
    """A folder that is in use as long as this object is.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        for left in reversed(range(_TRIES)):
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._held = _lock(self.path, make=True)
            if self._held is not None and (self.path / _LOCK).exists():
                return
            # Another process has taken it for one that was left behind, and removes it. Or this file system knows no
            # locks: then the last try has to do, and nobody ever removes what a killed process leaves there.
            if left:
                if self._held is not None:
                    self._held.close()
                _remove(self.path)

    def remove(self) -> None:
        """Remove all of it, though threads and compilers may still be writing."""
        if os.getpid() != self._process:  # a copy of the process, made by fork
            return
        # What is written by its path from now on finds no folder, and makes nothing that would be left.
        gone = self.path.with_name(f"{self.path.name}.gone")
        with contextlib.suppress(OSError):
            self.path.rename(gone)
        if self._held is not None:
            self._held.close()
        _remove(gone if gone.exists() else self.path)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new, empty folder for this block.

    Raises:
        OSError: none can be made, for want of space for instance, or the process is at its end.
    """
    path = new_temporary_folder()
    try:
        yield path
    finally:
        _remove(path)


def new_temporary_folder() -> Path:
    """A new, empty folder until the process ends. Raises ``OSError`` as ``temporary_folder`` does."""
    global _own
    with _guard:
        if _ended:
            raise OSError("the program is at its end")
        if _own is None:
            _remove_left_behind(Path(tempfile.gettempdir()))
        if _own is None or not _own.path.exists():  # systems remove what is old
            _own = _Folder()
        return Path(tempfile.mkdtemp(dir=_own.path))


def remove_temporary_files() -> None:
    """Remove all folders of this process; none can be made after this. Called at its end by itself."""
    global _own, _ended
    with _guard:
        _ended = True
        own, _own = _own, None
    if own is not None:
        own.remove()


atexit.register(remove_temporary_files)


def _remove_left_behind(folder: Path) -> None:
    """Remove the folders of processes that are no more."""
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            held = _lock(path, make=False)
        except OSError:
            continue  # another user's
        if held is not None:
            _remove(path)
            held.close()
        else:
            with contextlib.suppress(OSError):
                path.rmdir()  # an empty one has no lock yet; whoever has just made it makes another


def _lock(path: Path, *, make: bool) -> BinaryIO | None:
    """Take the folder's lock, which is held until the file is closed; None where it is held, or has none."""
    try:
        file = (path / _LOCK).open("wb" if make else "rb+")
    except FileNotFoundError:
        return None
    try:
        _lock_file(file)
    except OSError:
        file.close()
        return None
    return file


if sys.platform == "win32":  # not run where this was written: there is no Windows there
    import msvcrt

    def _lock_file(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_file(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it, though somebody may be writing into it."""
    for _ in range(_TRIES):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
