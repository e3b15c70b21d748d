"""What can be done with a file that has just been written."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from app.sources.images import IMAGE_SUFFIXES
from ui.banner import Acts


def saved_acts(path: Path | None) -> Acts:
    """Open it, or the folder that it lies in, with the programs of the system; nothing where there is no file."""
    if path is None:
        return ()
    word = "Open" if path.suffix.lower() in IMAGE_SUFFIXES else "Play"
    return ((word, lambda: _open(path)), ("Show in folder", lambda: _open(path.parent)))


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
