"""The paper of the canvas: shows a drawing and paints on it. What changes is drawn again, and nothing else."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPointingDevice,
    QTabletEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.changes import Rectangle
from app.drawing import Brush, Drawing, Patch
from ui import theme

_BLEED = 2  # pixels of the drawing that smooth scaling mixes into their neighbours
_LINE = 3.0  # logical pixels around the ring that its pens reach


class Paper(QWidget):
    """Shows a drawing as large as it fits, and paints on it with mouse or pen; the pen's other end erases.

    Signals:
        painted: something has changed.
    """

    painted = Signal()

    def __init__(self, drawing: Drawing, brush: Brush) -> None:
        super().__init__()
        self.drawing = drawing
        self._brush = brush
        self._pixels = np.empty((0, 0, 4), np.uint8)  # blue, green, red, unused: as QImage has it in memory
        self._image = QImage()  # of the same memory
        self._revision: int | None = None
        self._at: QPointF | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(200, 160)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setCursor(Qt.CursorShape.BlankCursor)
        self.setAccessibleName("Canvas")
        self.setAccessibleDescription("Paint here with the mouse or a pen; the model redraws beside it")

    @property
    def brush(self) -> Brush:
        """What the next stroke is painted with."""
        return self._brush

    @brush.setter
    def brush(self, brush: Brush) -> None:
        self._update_ring()
        self._brush = brush
        self._update_ring()

    def refresh(self) -> None:
        """Follow the drawing."""
        if self.drawing.revision == self._revision:
            return
        self._revision, patches = self.drawing.patches(self._revision)
        for patch in patches:
            self._take(patch)
        self.painted.emit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._begin(event.position(), self._brush)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point_at(event.position())
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._move(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._end()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._point_at(None)

    def tabletEvent(self, event: QTabletEvent) -> None:
        kind = event.type()
        self._point_at(event.position())
        if kind == QTabletEvent.Type.TabletPress:
            self.setFocus(Qt.FocusReason.MouseFocusReason)
            self._begin(event.position(), self._brush_of(event), event.pressure())
        elif kind == QTabletEvent.Type.TabletMove and event.buttons():
            self._move(event.position(), event.pressure())
        elif kind == QTabletEvent.Type.TabletRelease:
            self._end()
        event.accept()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(event.rect(), QColor(theme.current().stage))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        area = self._area()
        painter.drawImage(area, self._image)  # Qt draws no more of it than the event asks for
        if self._at is not None and area.contains(self._at):
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            radius = self._radius()
            painter.setPen(QPen(QColor(255, 255, 255, 200), 2.4))
            painter.drawEllipse(self._at, radius, radius)
            painter.setPen(QPen(QColor(20, 22, 28), 1.1))
            painter.drawEllipse(self._at, radius, radius)
        painter.end()

    # -- where things are ---------------------------------------------------------------------------------------------

    def _scale(self) -> float:
        width, height = self.drawing.size
        return min(self.width() / width, self.height() / height)

    def _area(self) -> QRectF:
        width, height = self.drawing.size
        scale = self._scale()
        size = (width * scale, height * scale)
        return QRectF((self.width() - size[0]) / 2, (self.height() - size[1]) / 2, *size)

    def _on_drawing(self, at: QPointF) -> tuple[float, float]:
        area, scale = self._area(), self._scale()
        return (at.x() - area.left()) / scale, (at.y() - area.top()) / scale

    def _on_widget(self, part: Rectangle) -> QRect:
        """Every logical pixel that shows something of ``part`` of the drawing."""
        area, scale = self._area(), self._scale()
        left, top = part.x - _BLEED, part.y - _BLEED
        size = ((part.width + 2 * _BLEED) * scale, (part.height + 2 * _BLEED) * scale)
        return QRectF(area.left() + left * scale, area.top() + top * scale, *size).toAlignedRect()

    def _radius(self) -> float:
        return max(2.0, self._brush.size * self._scale() / 2)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _take(self, patch: Patch) -> None:
        width, height = self.drawing.size
        area = patch.area
        if self._pixels.shape[:2] != (height, width):
            self._pixels = np.empty((height, width, 4), np.uint8)
            self._image = QImage(self._pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32)
            self.update()  # another size lies elsewhere
        self._pixels[area.y : area.bottom, area.x : area.right, :3] = patch.pixels[..., ::-1]
        self.update(self._on_widget(area))

    def _point_at(self, at: QPointF | None) -> None:
        self._update_ring()
        self._at = at
        self._update_ring()

    def _update_ring(self) -> None:
        if self._at is None:
            return
        reach = math.ceil(self._radius() + _LINE)
        self.update(QRect(-reach, -reach, 2 * reach, 2 * reach).translated(self._at.toPoint()))

    def _brush_of(self, event: QTabletEvent) -> Brush:
        erasing = event.pointerType() is QPointingDevice.PointerType.Eraser or self._brush.eraser
        brush = self._brush
        return Brush(brush.colour, brush.size, brush.opacity, brush.hardness, eraser=erasing)

    def _begin(self, at: QPointF, brush: Brush, pressure: float = 1.0) -> None:
        self.drawing.begin(*self._on_drawing(at), brush, pressure)
        self.refresh()

    def _move(self, at: QPointF, pressure: float = 1.0) -> None:
        self.drawing.move(*self._on_drawing(at), pressure)
        self.refresh()

    def _end(self) -> None:
        self.drawing.end()
        self.painted.emit()
