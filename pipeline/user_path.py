"""Paths as people give them: every text is a path, though there may be nothing there, and nothing here raises."""

from __future__ import annotations

import os
import re
from pathlib import Path


def expanded(text: str) -> str:
    """``text``, whose ``~`` is the user's home, also where no shell has seen it; a home that is none stays as it is."""
    return os.path.expanduser(text)  # noqa: PTH111 - Path's own raises, and drops "./"


def user_path(text: str) -> Path:
    """``expanded``, as a path."""
    return Path(expanded(text))


def is_blank(text: str) -> bool:
    """Whether ``text`` names nothing; as a path, it would be taken for the folder that the program runs in."""
    return not text.strip()


def is_address(text: str) -> bool:
    """Whether ``text`` is an address, as ``https://…``, and not the path of anything that is there."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None and not os.path.lexists(text)


def real_path(path: str | Path) -> str:
    """``path`` in full and without symbolic links; as it is where one of these may not be looked at."""
    try:
        return os.path.realpath(path)
    except OSError:  # before Python 3.13 also of a link in ``/proc`` to what is another user's
        return os.path.abspath(path)  # noqa: PTH100 - beside realpath


def is_there(path: str | Path) -> bool:
    """Whether anything is there; False as well for names that no file can have, and where one may not look."""
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False as well for names that no folder can have, and where one may not look."""
    return os.path.isdir(path)  # noqa: PTH112 - Path's own raises


def is_file(path: str | Path) -> bool:
    """Whether an ordinary file is there; False as well for names that no file can have, and where one may not look."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's own raises
