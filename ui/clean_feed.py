"""A window with nothing in it but the picture, for OBS and the like to capture."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QCloseEvent, QGuiApplication, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.window_list import has_compositor
from ui.layout import Mode
from ui.viewer import Viewer

# Where windows are put together by the system, so that any of them may be seen through: by Qt's names of platforms.
_COMPOSED = ("wayland", "cocoa", "windows")
_EDGE = 14  # pixels at the corner that resize instead of move


class CleanFeed(QWidget):
    """Borderless, the picture alone. Drag it anywhere; drag its lower right corner to resize; Escape closes it.

    Args:
        transparent: show what is behind the window where nothing is behind the person; else it is green there. It
            cannot be changed while the window is open, and not every program captures a transparent window.

    Signals:
        closed: by whatever way.
    """

    closed = Signal()

    def __init__(self, *, transparent: bool = False) -> None:
        super().__init__()
        if transparent:
            self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.setWindowTitle("Vitrail clean feed")
        self.setWindowFlags(Qt.WindowType.Window | Qt.WindowType.FramelessWindowHint)
        self.setAccessibleName("Clean feed: the picture alone")
        self.viewer = Viewer(self, clean=True, transparent=transparent)
        self.viewer.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.viewer)
        self._grip: QPoint | None = None
        self._resizing = False
        self.resize(1280, 720)

    @property
    def transparent(self) -> bool:
        """Whether what is behind the window is seen where nothing is behind the person."""
        return self.testAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)

    def fit(self, width: int, height: int) -> None:
        """Take the shape of a picture of this size, as large as 1280 x 720 allows."""
        scale = min(1280 / width, 720 / height)
        self.resize(round(width * scale), round(height * scale))

    def show_mode(self, mode: Mode) -> None:
        """Output, or what the main window shows."""
        self.viewer.mode = mode

    def mousePressEvent(self, event: QMouseEvent) -> None:
        at = event.position().toPoint()
        self._resizing = at.x() > self.width() - _EDGE and at.y() > self.height() - _EDGE
        if self._moved_by_the_system():
            return
        self._grip = event.globalPosition().toPoint() - self.frameGeometry().topLeft()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._grip is None:
            return
        if self._resizing:
            at = event.position().toPoint()
            self.resize(max(64, at.x()), max(48, at.y()))
        else:
            self.move(event.globalPosition().toPoint() - self._grip)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._grip = None
        super().mouseReleaseEvent(event)

    def _moved_by_the_system(self) -> bool:
        """Have the desktop move or resize the window from here on, as it must on Wayland; False where it does not."""
        handle = self.windowHandle()
        if handle is None:
            return False
        if self._resizing:
            return handle.startSystemResize(Qt.Edge.RightEdge | Qt.Edge.BottomEdge)
        return handle.startSystemMove()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.close()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.closed.emit()
        event.accept()


def can_be_transparent(platform: str, composed: bool) -> bool:
    """Whether a window may be seen through; else it would be black.

    Args:
        platform: ``QGuiApplication.platformName()``.
        composed: on X11, whether a compositing manager runs.
    """
    return platform in _COMPOSED or (platform == "xcb" and composed)


def transparent_here() -> bool:
    """``can_be_transparent`` of this desktop."""
    platform = QGuiApplication.platformName()
    return can_be_transparent(platform, platform == "xcb" and has_compositor())
