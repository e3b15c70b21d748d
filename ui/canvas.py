"""The canvas: paper to paint on, with the model redrawing beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QTabletEvent,
)
from PySide6.QtWidgets import (
    QButtonGroup,
    QColorDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.drawing import Brush, Colour, Drawing
from ui import theme
from ui.icons import icon
from ui.inputs import Slider

# Ink, paper, and a small box of paints.
COLOURS: tuple[Colour, ...] = (
    (24, 26, 32),
    (255, 255, 255),
    (214, 64, 56),
    (240, 148, 50),
    (248, 208, 84),
    (84, 160, 92),
    (72, 150, 214),
    (74, 84, 180),
    (150, 96, 176),
    (150, 104, 72),
    (240, 196, 168),
)


class Paper(QWidget):
    """Shows a drawing as large as it fits, and paints on it with mouse or pen.

    Signals:
        painted: something has changed.
    """

    painted = Signal()

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.drawing = drawing
        self.brush = Brush(COLOURS[0], 14)
        self._image = QImage()
        self._revision = -1
        self._at: QPointF | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(200, 160)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.BlankCursor)
        self.setAccessibleName("Canvas")
        self.setAccessibleDescription("Paint here with the mouse or a pen; the model redraws beside it")

    def refresh(self) -> None:
        """Follow the drawing."""
        if self.drawing.revision == self._revision:
            return
        look = self.drawing.look()
        self._revision = look.revision
        height, width = look.pixels.shape[:2]
        pixels = np.ascontiguousarray(look.pixels)
        self._image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).convertToFormat(
            QImage.Format.Format_RGB32
        )
        self.update()
        self.painted.emit()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._begin(event.position())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._at = event.position()
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._move(event.position())
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._end()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._at = None
        self.update()

    def tabletEvent(self, event: QTabletEvent) -> None:
        kind = event.type()
        self._at = event.position()
        if kind == QTabletEvent.Type.TabletPress:
            self._begin(event.position(), event.pressure())
        elif kind == QTabletEvent.Type.TabletMove and event.buttons():
            self._move(event.position(), event.pressure())
        elif kind == QTabletEvent.Type.TabletRelease:
            self._end()
        event.accept()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(event.rect(), QColor(theme.current().stage))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        area = self._area()
        painter.drawImage(area, self._image)
        if self._at is not None and area.contains(self._at):
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            radius = max(2.0, self.brush.size * self._scale() / 2)
            painter.setPen(QPen(QColor(255, 255, 255, 200), 2.4))
            painter.drawEllipse(self._at, radius, radius)
            painter.setPen(QPen(QColor(20, 22, 28), 1.1))
            painter.drawEllipse(self._at, radius, radius)
        painter.end()

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

    def _begin(self, at: QPointF, pressure: float = 1.0) -> None:
        self.drawing.begin(*self._on_drawing(at), self.brush, pressure)
        self.refresh()

    def _move(self, at: QPointF, pressure: float = 1.0) -> None:
        self.drawing.move(*self._on_drawing(at), pressure)
        self.refresh()

    def _end(self) -> None:
        self.drawing.end()
        self.painted.emit()


class CanvasPane(QWidget):
    """The paper with its tools.

    Args:
        drawing: to paint on.
        import_picture: asked for when a picture is to be laid on the paper.
    """

    def __init__(self, drawing: Drawing, import_picture: Callable[[], None]) -> None:
        super().__init__()
        self.paper = Paper(drawing)
        self._colour = COLOURS[0]
        self.swatches: list[QToolButton] = []
        self._together = QButtonGroup(self)
        self.brush = _tool("Brush", checkable=True)
        self.eraser = _tool("Eraser", checkable=True)
        self.undo = _tool("Undo the last stroke")
        self.redo = _tool("Redo the stroke")
        self.clear = _tool("Empty paper")
        self.load = _tool("Lay a picture on the paper")
        self.other = _tool("Another colour")
        self.width_ = Slider()
        self.width_.setRange(2, 96)
        self.width_.setValue(14)
        self.width_.setFixedWidth(90)
        self.width_.setAccessibleName("Brush size")
        self.width_.setToolTip("Brush size")
        self._arrange()
        tools = QButtonGroup(self)
        tools.addButton(self.brush)
        tools.addButton(self.eraser)
        self.brush.setChecked(True)
        self.brush.toggled.connect(self._change_brush)
        self.width_.valueChanged.connect(self._change_brush)
        self.undo.clicked.connect(lambda: self._do(self.paper.drawing.undo))
        self.redo.clicked.connect(lambda: self._do(self.paper.drawing.redo))
        self.clear.clicked.connect(lambda: self._do(self.paper.drawing.clear))
        self.load.clicked.connect(import_picture)
        self.other.clicked.connect(self._ask_colour)
        self.paper.painted.connect(self._follow)
        self.dress()
        self.paper.refresh()
        self._follow()

    def choose_colour(self, colour: Colour) -> None:
        """Paint in this colour from now on."""
        self._colour = colour
        self.brush.setChecked(True)
        self._change_brush()

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        drawings = {
            self.brush: "brush",
            self.eraser: "eraser",
            self.undo: "undo",
            self.redo: "redo",
            self.clear: "trash",
            self.load: "image",
            self.other: "plus",
        }
        for button, name in drawings.items():
            button.setIcon(icon(name, size=18))
        line = theme.current().strong_line
        accent = theme.current().accent
        for button, colour in zip(self.swatches, COLOURS, strict=True):
            name = QColor(*colour).name()
            button.setStyleSheet(
                f"QToolButton {{ background: {name}; border: 1px solid {line}; border-radius: 11px; padding: 0; }}"
                f"QToolButton:checked, QToolButton:focus {{ border: 2px solid {accent}; }}"
            )

    def _arrange(self) -> None:
        bar = QFrame()
        bar.setObjectName("bar")
        rows = QVBoxLayout(bar)
        rows.setContentsMargins(10, 6, 10, 8)
        rows.setSpacing(6)
        row = QHBoxLayout()
        row.setSpacing(3)
        for part in (self.brush, self.eraser, self.width_):
            row.addWidget(part)
        row.addStretch(1)
        for part in (self.undo, self.redo, self.load, self.clear):
            row.addWidget(part)
        paints = QHBoxLayout()
        paints.setSpacing(5)
        for colour in COLOURS:
            swatch = QToolButton()
            swatch.setCheckable(True)
            swatch.setFixedSize(22, 22)
            swatch.setAccessibleName(f"Colour {QColor(*colour).name()}")
            swatch.clicked.connect(lambda _=False, colour=colour: self.choose_colour(colour))
            self._together.addButton(swatch)
            self.swatches.append(swatch)
            paints.addWidget(swatch)
        self.swatches[0].setChecked(True)
        paints.addWidget(self.other)
        paints.addStretch(1)
        rows.addLayout(row)
        rows.addLayout(paints)
        hint = QLabel("Paint here: the picture follows.")
        hint.setProperty("role", "faint")
        hint.setContentsMargins(14, 4, 14, 6)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(bar)
        column.addWidget(self.paper, 1)
        column.addWidget(hint)

    def _change_brush(self, _: object = None) -> None:
        self.paper.brush = Brush(self._colour, float(self.width_.value()), eraser=self.eraser.isChecked())
        self.paper.update()

    def _do(self, act: Callable[[], None]) -> None:
        act()
        self.paper.refresh()
        self._follow()

    def _follow(self) -> None:
        self.undo.setEnabled(self.paper.drawing.can_undo)
        self.redo.setEnabled(self.paper.drawing.can_redo)

    def _ask_colour(self) -> None:
        chosen = QColorDialog.getColor(QColor(*self._colour), self, "Colour")
        if chosen.isValid():
            self._together.setExclusive(False)
            for swatch in self.swatches:
                swatch.setChecked(False)
            self._together.setExclusive(True)
            self.choose_colour((chosen.red(), chosen.green(), chosen.blue()))


def _tool(name: str, *, checkable: bool = False) -> QToolButton:
    button = QToolButton()
    button.setProperty("role", "ghost")
    button.setCheckable(checkable)
    button.setIconSize(QSize(18, 18))
    button.setAccessibleName(name)
    button.setToolTip(name)
    return button
