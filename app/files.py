"""Where pictures and recordings go by default, and names for them that are not taken yet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import platformdirs


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
