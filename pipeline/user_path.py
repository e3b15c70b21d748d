"""Paths as people give them: every text is a path, though there may be nothing there, and nothing here raises."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(text: str) -> str:
    """``text``, whose ``~`` is the user's home, also where no shell has seen it; a home that is none stays as it is."""
    return os.path.expanduser(text)  # noqa: PTH111 - Path's own raises, and drops "./"


def user_path(text: str) -> Path:
    """``expanded``, as a path."""
    return Path(expanded(text))


def is_there(path: str | Path) -> bool:
    """Whether anything is there; False as well for names that no file can have."""
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False as well for names that no folder can have."""
    return os.path.isdir(path)  # noqa: PTH112 - Path's own raises


def is_file(path: str | Path) -> bool:
    """Whether an ordinary file is there; False as well for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's own raises
