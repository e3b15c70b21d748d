"""The app's own line icons, from ``assets/icons``, in any colour and sharp at any scale."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QGuiApplication, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

import assets
from ui.theme import current

FOLDER = Path(assets.__file__).parent / "icons"


def icon(name: str, colour: str | None = None, *, checked: str | None = None, size: int = 20) -> QIcon:
    """The icon of this name; in the text colour of the theme, fainter where disabled.

    Args:
        name: of a file in ``assets/icons``, without its ending.
        colour: ``#rrggbb`` instead of the theme's.
        checked: its colour where the button is on.
        size: in logical pixels.
    """
    theme = current()
    made = QIcon()
    for scale in {screen.devicePixelRatio() for screen in QGuiApplication.screens()}:
        made.addPixmap(pixmap(name, colour or theme.muted, size, scale))
        made.addPixmap(pixmap(name, colour or theme.text, size, scale), QIcon.Mode.Active)
        made.addPixmap(pixmap(name, theme.faint, size, scale), QIcon.Mode.Disabled)
        for mode in (QIcon.Mode.Normal, QIcon.Mode.Active):
            made.addPixmap(pixmap(name, checked or colour or theme.accent, size, scale), mode, QIcon.State.On)
    return made


def application_icon() -> QIcon:
    """Vitrail's own picture, for title bars, task bars and docks, which take the size that they need."""
    made = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        made.addPixmap(pixmap("vitrail", current().accent, size))
    return made


@cache
def pixmap(name: str, colour: str, size: int = 20, scale: float = 1) -> QPixmap:
    """The icon as a picture of ``size`` logical pixels, for a screen of this scale."""
    drawing = _drawing(name).replace("currentColor", colour)
    picture = QPixmap(QSize(round(size * scale), round(size * scale)))
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    QSvgRenderer(QByteArray(drawing.encode())).render(painter, QRectF(0, 0, size * scale, size * scale))
    painter.end()
    picture.setDevicePixelRatio(scale)
    return picture


@cache
def _drawing(name: str) -> str:
    return (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
