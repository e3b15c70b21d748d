"""The canvas: paper to paint on, with the model redrawing beside it."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QSize, Signal
from PySide6.QtGui import QColor, QKeyEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QColorDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.drawing import Brush, Colour, Drawing
from ui import theme
from ui.actions import asks
from ui.icons import icon
from ui.inputs import Slider
from ui.paper import Paper

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
_FIRST_SIZE = 14  # of the brush, in pixels of the drawing


class CanvasPane(QWidget):
    """The paper with its tools. Whatever in it has the focus, undo and redo are of strokes, ``[`` and ``]`` change the
    brush.

    Args:
        drawing: to paint on.

    Signals:
        laying_asked: a picture is to be laid on the paper.
        opening_asked: a picture is to become the drawing.
        saving_asked: the drawing is to be saved.
    """

    laying_asked = Signal()
    opening_asked = Signal()
    saving_asked = Signal()

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.paper = Paper(drawing, Brush(COLOURS[0], _FIRST_SIZE))
        self._colour = COLOURS[0]
        self.swatches: list[QToolButton] = []
        self._together = QButtonGroup(self)
        self.brush = _tool("Brush", checkable=True)
        self.eraser = _tool("Eraser", checkable=True)
        self.undo = _tool("Undo the last stroke")
        self.redo = _tool("Redo the stroke")
        self.clear = _tool("Empty paper")
        self.load = _tool("Lay a picture on the paper")
        self.open = _tool("Open a picture as the drawing")
        self.save = _tool("Save the drawing")
        self.other = _tool("Another colour")
        self.width_ = Slider()
        self.width_.setRange(2, 96)
        self.width_.setValue(_FIRST_SIZE)
        self.width_.setFixedWidth(90)
        self.width_.setAccessibleName("Brush size")
        self.width_.setToolTip("Brush size  ([ and ])")
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
        self.load.clicked.connect(self.laying_asked)
        self.open.clicked.connect(self.opening_asked)
        self.save.clicked.connect(self.saving_asked)
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
            self.open: "folder",
            self.save: "save",
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

    def event(self, event: QEvent) -> bool:
        """Before Qt looks for a shortcut of the window's, it asks whoever has the focus, and those around it."""
        if event.type() is QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and self._act_of(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        act = self._act_of(event)
        if act is None:
            super().keyPressEvent(event)
        else:
            act()

    def _act_of(self, event: QKeyEvent) -> Callable[[], None] | None:
        """What a key does here; None where it is none of the canvas's."""
        if asks(event, "undo"):
            return self.undo.click
        if asks(event, "redo"):
            return self.redo.click
        larger = {"[": False, "]": True}.get(event.text())
        return None if larger is None else lambda: self._resize_brush(larger)

    def _resize_brush(self, larger: bool) -> None:
        size = self.width_.value()
        step = max(1, size // 8)  # as far to the eye for a thin brush as for a thick one
        self.width_.setValue(size + step if larger else size - step)

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
        for part in (self.undo, self.redo, self.load, self.open, self.save, self.clear):
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
