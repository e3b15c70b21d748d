"""Files as wholes: read without ever waiting, and replaced in one step."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from pathlib import Path
from typing import BinaryIO

from pipeline.user_path import real_path

NOT_ORDINARY = "it is no ordinary file"
NAME_LETTERS = 40  # of the file's own name in that of a draft: of any script, they leave room for the rest
_numbers = itertools.count()


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


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all.

    It is written beside the file, and then takes its place in one step. A link is followed: what it leads to is
    replaced, and the link stays. Any number of threads and processes may write to one path at the same time.

    Raises:
        OSError: the disk does not take it; the old file is as it was.
    """
    path = Path(real_path(path))
    if path.is_char_device():  # as /dev/stdout is: nothing can take its place
        path.write_bytes(content)
        return
    draft = beside(path, "part")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def beside(path: Path, ending: str) -> Path:
    """A hidden name in the folder of ``path`` that nobody else takes."""
    return path.with_name(f".{path.name[:NAME_LETTERS]}.{os.getpid()}.{next(_numbers)}.{ending}")


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"
