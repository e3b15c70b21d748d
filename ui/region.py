"""A rectangle of the desktop, drawn by mouse over the desktop itself.

On Windows and macOS the veil is translucent and the desktop lives on under it. On Linux only a compositor could do
that, and nothing tells whether one runs, so there the veil shows the desktop as it was a moment ago.
"""

from __future__ import annotations

import sys

from PySide6.QtCore import QPoint, QRect, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFont,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QScreen,
)
from PySide6.QtWidgets import QWidget

from app.screens import Screen, region_on
from ui import theme

SMALLEST = 32  # pixels


class RegionPicker(QWidget):
    """Covers one screen with a veil until a rectangle has been drawn, or Escape.

    Args:
        screen: that it covers, as Qt knows it.
        known: the same one, as it is read (see ``app/screens.py``).

    Signals:
        picked: number of the screen and (x, y, width, height) on it, as ``ScreenSource`` takes them.
        cancelled: nothing was chosen.
    """

    picked = Signal(int, tuple)
    cancelled = Signal()

    def __init__(self, screen: QScreen, known: Screen) -> None:
        super().__init__()
        self._size = screen.size()
        self._known = known
        self._start: QPoint | None = None
        self._end = QPoint()
        self.setWindowTitle("Draw a region")
        self.setWindowFlags(Qt.WindowType.FramelessWindowHint | Qt.WindowType.WindowStaysOnTopHint | Qt.WindowType.Tool)
        self._desktop = screen.grabWindow(0) if sys.platform.startswith("linux") else QPixmap()
        if self._desktop.isNull():
            self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setGeometry(screen.geometry())

    @property
    def region(self) -> tuple[int, int, int, int]:
        """What is drawn so far: (x, y, width, height) on the screen, in the units that it is read in."""
        area = self._area()
        drawn = area.x(), area.y(), area.width(), area.height()
        return region_on(self._known, (self._size.width(), self._size.height()), drawn)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._start = self._end = event.position().toPoint()
        else:
            self._cancel()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._end = event.position().toPoint()
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._start is None or event.button() is not Qt.MouseButton.LeftButton:
            return
        self._end = event.position().toPoint()
        region = self.region
        if min(region[2:]) < SMALLEST:  # a click, not a drag
            self._start = None
            self.update()
            return
        self.hide()  # before the first picture is taken: the veil must not be in it
        self.picked.emit(self._known.number, region)
        self.close()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._cancel()

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.drawPixmap(self.rect(), self._desktop)
        area = self._area()
        veil = QColor(8, 10, 14, 140)
        if self._start is None:
            painter.fillRect(self.rect(), veil)
            self._paint_words(painter, "Draw the region to watch  ·  Esc to cancel", self.rect().center())
            return
        whole = self.rect()
        painter.fillRect(QRect(0, 0, whole.width(), area.top()), veil)
        painter.fillRect(QRect(0, area.bottom() + 1, whole.width(), whole.height() - area.bottom() - 1), veil)
        painter.fillRect(QRect(0, area.top(), area.left(), area.height()), veil)
        painter.fillRect(QRect(area.right() + 1, area.top(), whole.width() - area.right() - 1, area.height()), veil)
        painter.fillRect(area, QColor(0, 0, 0, 1))  # not quite clear: through a hole, the click would fall
        painter.setPen(QPen(QColor(theme.current().accent), 2))
        painter.drawRect(area)
        width, height = self.region[2:]
        self._paint_words(painter, f"{width} × {height}", area.center())

    def _area(self) -> QRect:
        if self._start is None:
            return QRect()
        left, right = sorted((self._start.x(), self._end.x()))
        top, bottom = sorted((self._start.y(), self._end.y()))
        return QRect(left, top, right - left, bottom - top).intersected(self.rect())

    def _cancel(self) -> None:
        self.cancelled.emit()
        self.close()

    def _paint_words(self, painter: QPainter, words: str, at: QPoint) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPixelSize(15)
        painter.setFont(font)
        box = painter.fontMetrics().boundingRect(words).adjusted(-16, -9, 16, 9)
        box.moveCenter(at)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(16, 18, 24, 230))
        painter.drawRoundedRect(box, 10, 10)
        painter.setPen(QColor("#ffffff"))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)
