"""The styles that the model knows, to click: one row, with an arrow at each end behind which there is more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QKeySequence, QShortcut, QWheelEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QToolButton, QWidget

from app.styles import Style
from ui.icons import icon
from ui.inputs import small_button
from ui.keys import keys_of
from ui.words import has

_HEIGHT = 38
_PAGE = 0.8  # of what is in view, that an arrow moves on by
_BY_KEY = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason, Qt.FocusReason.OtherFocusReason)
_NEXT = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}


class Chips(QWidget):
    """Styles to choose by a click, by the arrow keys, or by their number.

    The row moves only for who cannot reach a style otherwise: a click always chooses what lies under the pointer. All
    chips are one stop of the tab key, at the chosen one.

    Args:
        after: the tab key comes here from there.

    Signals:
        chosen: the style.
    """

    chosen = Signal(object)

    def __init__(self, after: QWidget) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        self._after = after
        self.row = _Row()
        self.back = _arrow("chevron-left", "Styles before these", lambda: self._turn(-1))
        self.on = _arrow("chevron-right", "More styles", lambda: self._turn(1))
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        for part in (self.back, self.row, self.on):
            line.addWidget(part)
        self._buttons: list[tuple[Style, QPushButton]] = []
        self._prompt = ""
        self._choosing = False  # what the prompt names was clicked, and so is where the pointer is
        bar = self.row.horizontalScrollBar()
        bar.rangeChanged.connect(self._show_arrows)
        bar.valueChanged.connect(self._show_arrows)
        for number, key in enumerate(keys_of("style")):
            QShortcut(QKeySequence(key), self).activated.connect(lambda number=number: self._press(number))

    @property
    def buttons(self) -> list[QPushButton]:
        """One for each style, in order."""
        return [button for _, button in self._buttons]

    def show_styles(self, styles: Sequence[Style]) -> None:
        """List these styles."""
        if [style for style, _ in self._buttons] == list(styles):
            return
        strip = QWidget()
        strip.setObjectName("strip")
        row = QHBoxLayout(strip)
        row.setContentsMargins(0, 2, 0, 2)
        row.setSpacing(8)
        self._buttons = []
        for at, style in enumerate(styles):
            if style.tint and at and not styles[at - 1].tint:
                row.addSpacing(10)
            button = self._button(style, at)
            row.addWidget(button)
            self._buttons.append((style, button))
        row.addStretch(1)
        self.row.setWidget(strip)
        self.setVisible(bool(styles))
        for first, second in pairwise([self._after, *self.buttons]):
            self.setTabOrder(first, second)
        self.mark(self._prompt)

    def mark(self, prompt: str) -> None:
        """Show as chosen what the prompt names, and have the first of it in view."""
        changed, self._prompt = prompt != self._prompt, prompt
        for style, button in self._buttons:
            button.setChecked(has(prompt, style))
        stop = next((button for button in self.buttons if button.isChecked()), None)
        if stop is not None and changed and not self._choosing:
            self.row.ensureWidgetVisible(stop)
        self._stop_at(stop or next(iter(self.buttons), None))

    def dress(self) -> None:
        """Draw the arrows in the theme's colours."""
        for button, drawing in ((self.back, "chevron-left"), (self.on, "chevron-right")):
            button.setIcon(icon(drawing, size=16))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(watched, QPushButton):
            if isinstance(event, QFocusEvent) and event.gotFocus() and event.reason() in _BY_KEY:
                self.row.ensureWidgetVisible(watched)
            elif isinstance(event, QKeyEvent) and event.type() is QEvent.Type.KeyPress and event.key() in _NEXT:
                self._go(watched, _NEXT[Qt.Key(event.key())])
                return True
        return super().eventFilter(watched, event)

    def _button(self, style: Style, at: int) -> QPushButton:
        button = QPushButton(style.name)
        button.setProperty("role", "chip")
        button.setCheckable(True)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        keys = keys_of("style")
        key = f"  ({keys[at]})" if at < len(keys) else ""
        button.setToolTip(f"“{style.prompt}”{key}")
        button.clicked.connect(lambda _=False: self._choose(style))
        button.installEventFilter(self)
        return button

    def _choose(self, style: Style) -> None:
        self._choosing = True
        self.chosen.emit(style)
        self._choosing = False

    def _press(self, number: int) -> None:
        if number < len(self._buttons):
            button = self._buttons[number][1]
            button.click()
            self.row.ensureWidgetVisible(button)

    def _go(self, button: QPushButton, by: int) -> None:
        buttons = self.buttons
        at = buttons.index(button) + by
        if 0 <= at < len(buttons):
            self._stop_at(buttons[at])
            buttons[at].setFocus(Qt.FocusReason.TabFocusReason)

    def _stop_at(self, stop: QPushButton | None) -> None:
        for button in self.buttons:
            focused = button is stop or button.hasFocus()
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus if focused else Qt.FocusPolicy.NoFocus)

    def _turn(self, by: int) -> None:
        bar = self.row.horizontalScrollBar()
        bar.setValue(bar.value() + round(by * _PAGE * self.row.viewport().width()))

    def _show_arrows(self) -> None:
        bar = self.row.horizontalScrollBar()
        # An arrow takes its place also where there is nothing behind it, so that nothing moves under the pointer.
        more = bar.maximum() > 0
        for button, there in ((self.back, bar.value() > 0), (self.on, bar.value() < bar.maximum())):
            button.setVisible(more)
            button.setEnabled(there)


class _Row(QScrollArea):
    """What the arrows and the mouse wheel move."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        turned = event.angleDelta()
        bar = self.horizontalScrollBar()
        bar.setValue(bar.value() - (turned.x() or turned.y()))
        event.accept()


def _arrow(drawing: str, name: str, act: Callable[[], object]) -> QToolButton:
    button = small_button(drawing, name, name)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the arrow keys reach what is behind it
    button.clicked.connect(lambda _=False: act())
    button.hide()
    return button
