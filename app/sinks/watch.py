"""Whether what was written is still there: success is said of nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

from app.sinks.base import SinkError
from pipeline.user_path import is_file

_LOOK_SECONDS = 1.0


class FileWatch:
    """Notices when a file that is written is deleted, moved or replaced.

    On Linux and macOS this can be done while it is open, and every further write succeeds, into nothing.

    Args:
        path: the file, which is there already.

    Raises:
        OSError: it is not, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Held open, so that no other file can get its number meanwhile.
        self._file = path.open("rb")
        self._looked = time.monotonic()

    def look(self, *, now: bool = False) -> None:
        """Look at most once a second, or ``now``. Raises ``SinkError`` where the file is gone."""
        moment = time.monotonic()
        if not now and moment - self._looked < _LOOK_SECONDS:
            return
        self._looked = moment
        try:
            there = os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except OSError:
            there = False
        if not there:
            raise _gone(self._path)

    def close(self) -> None:
        """Let go of the file. Safe to call more than once."""
        self._file.close()


def require_file(path: Path) -> None:
    """Raise ``SinkError`` where a file that was written is there no more."""
    if not is_file(path):
        raise _gone(path)


def _gone(path: Path) -> SinkError:
    return SinkError(f"{path} was deleted or moved while it was written; start again, with another name.")
