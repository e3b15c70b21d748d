"""The small parts that controls are made of: a switch, a slider, and boxes that leave the mouse wheel to the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from PySide6.QtCore import QEvent, QObject, QRectF, QSignalBlocker, QSize, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QAbstractButton,
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionSlider,
    QToolButton,
    QWidget,
)

from ui import theme
from ui.icons import icon, pixmap

_KNOB = "#f4f5f8"


class Switch(QAbstractButton):
    """On or off."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(42, 26)

    def paintEvent(self, _: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        track = QRectF(2, 3, 38, 20)
        painter.setPen(QPen(QColor(colours.accent), 2) if self.hasFocus() else Qt.PenStyle.NoPen)
        on = self.isChecked() and self.isEnabled()
        painter.setBrush(QColor(colours.accent if on else colours.control))
        painter.drawRoundedRect(track, 10, 10)
        painter.setPen(Qt.PenStyle.NoPen)
        knob = colours.on_accent if on else _KNOB if self.isEnabled() else colours.faint
        painter.setBrush(QColor(knob))
        x = track.right() - 17 if self.isChecked() else track.left() + 3
        painter.drawEllipse(QRectF(x, track.top() + 3, 14, 14))
        painter.end()


class Slider(QSlider):
    """A slider that jumps to where it is clicked."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        _leave_wheel_to_page(self)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            option = QStyleOptionSlider()
            self.initStyleOption(option)
            style = self.style()
            handle = style.subControlRect(
                QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, self
            )
            if not handle.contains(event.position().toPoint()):
                room = self.width() - handle.width()
                position = round(event.position().x() - handle.width() / 2)
                self.setValue(QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), position, room))
        super().mousePressEvent(event)


class Segments(QFrame):
    """Buttons in a row, of which one is on."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("segments")
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(3, 3, 3, 3)
        self._row.setSpacing(2)
        self._together = QButtonGroup(self)

    def add(self, text: str, act: Callable[[], object]) -> QToolButton:
        """One more at the right end; ``act`` is called when it is clicked."""
        button = QToolButton()
        button.setProperty("role", "segment")
        button.setText(text)
        button.setCheckable(True)
        button.clicked.connect(lambda _=False: act())
        self._together.addButton(button)
        self._row.addWidget(button)
        return button


def small_button(drawing: str, name: str, tip: str) -> QToolButton:
    """A button that is its icon alone, with a name for who cannot see it."""
    button = QToolButton()
    button.setProperty("role", "small")
    button.setIcon(icon(drawing, size=16))
    button.setIconSize(QSize(16, 16))
    button.setAccessibleName(name)
    button.setToolTip(tip)
    return button


def quietly(widget: QWidget, act: Callable[[], object]) -> None:
    """Do ``act``, which shows something else in ``widget``, without that counting as an edit by hand."""
    with QSignalBlocker(widget):
        act()
    widget.update()  # a switch otherwise learns from its own signal that it has to be painted


def whole_box() -> QSpinBox:
    """A whole number to type."""
    return _to_type(QSpinBox())


def number_box() -> QDoubleSpinBox:
    """A number to type."""
    return _to_type(QDoubleSpinBox())


class Choice(QComboBox):
    """One of several."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _leave_wheel_to_page(self)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        arrow = pixmap("chevron-down", theme.current().muted, 14, self.devicePixelRatio())
        painter.drawPixmap(self.width() - 24, (self.height() - 14) // 2, arrow)
        painter.end()


_Box = TypeVar("_Box", QSpinBox, QDoubleSpinBox)


def _to_type(box: _Box) -> _Box:
    box.setAlignment(Qt.AlignmentFlag.AlignRight)
    box.setKeyboardTracking(False)
    _leave_wheel_to_page(box)
    return box


class _WheelToPage(QObject):
    """A page that scrolls under the mouse must not change what happens to lie there."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()  # Qt then offers it to the parent
            return True
        return super().eventFilter(watched, event)


def _leave_wheel_to_page(widget: QWidget) -> None:
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # as it is, a turn of the wheel would take the focus
    widget.installEventFilter(_WheelToPage(widget))
