"""A control for a setting, drawn from the setting's own description."""

from __future__ import annotations

from html import escape
from typing import Any

from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QSpinBox, QToolButton, QVBoxLayout, QWidget

from app.catalogue import Entry
from pipeline.setting import Value
from ui import theme
from ui.icons import icon
from ui.inputs import Choice, Slider, Switch, number_box, quietly, small_button, whole_box
from ui.offers import offers_menu

# With more positions than this, a slider cannot be set by hand.
_MOST_POSITIONS = 1000
_LARGEST_WHOLE = 2**31 - 1
TRY_AGAIN = "Try again with all of the memory"


class Control(QWidget):
    """Label, value, and a button back to the default. Subclasses add the part to take hold of.

    Signals:
        edited: name and new value, by hand only.
        reset_asked: the name.
        lift_asked: the limit that memory puts on the setting is to be lifted.
        explained: the text to show beside the control that has the mouse or the keyboard; empty when it has left.
    """

    edited = Signal(str, object)
    reset_asked = Signal(str)
    lift_asked = Signal()
    explained = Signal(str)

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry
        self.label = QLabel(entry.label)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.label.setWordWrap(True)  # so that no name is too long for the panel
        self.reset = QToolButton()
        self.reset.setProperty("role", "small")
        self.reset.setIconSize(QSize(14, 14))
        self.reset.clicked.connect(lambda: self.reset_asked.emit(entry.name))
        policy = self.reset.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.reset.setSizePolicy(policy)
        self.problem = QLabel()
        self.problem.setProperty("role", "problem")
        self.problem.setWordWrap(True)
        self.problem.hide()
        self.note = QLabel()
        self.note.setProperty("role", "faint")
        self.note.setTextFormat(Qt.TextFormat.RichText)
        self.note.setWordWrap(True)
        self.note.linkActivated.connect(lambda _: self.lift_asked.emit())
        self.note.hide()
        self.head = QHBoxLayout()
        self.head.setSpacing(6)
        self.head.addWidget(self.label, 1)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(2)
        self.column.addLayout(self.head)

    @property
    def part(self) -> QWidget:
        """What takes the keyboard."""
        raise NotImplementedError

    def show_value(self, value: Value, reset: str = "") -> None:
        """Follow the settings; tells nobody.

        Args:
            value: of the setting.
            reset: what the button beside it does, which is there only where somebody chose the value.
        """
        self.problem.hide()
        self.reset.setVisible(bool(reset))
        self.reset.setToolTip(reset)
        self.reset.setAccessibleName(f"{self.entry.label}: {reset}")
        self._write(value)

    def show_note(self, text: str, *, can_lift: bool = False) -> None:
        """Say what is in force in the place of the value, and why; nothing where the value itself is."""
        again = f" {theme.link('try', TRY_AGAIN)}" if can_lift else ""
        self.note.setText(f"{escape(text)}{again}")
        self.note.setVisible(bool(text))

    def show_problem(self, text: str) -> None:
        """Say why the last value could not be taken."""
        self.problem.setText(text)
        self.problem.show()

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        self.reset.setIcon(icon("reset", size=14))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.Enter):
            self.explained.emit(f"<b>{self.entry.label}.</b> {self.entry.explanation}")
        elif event.type() is QEvent.Type.Leave:
            self.explained.emit("")
        return super().eventFilter(watched, event)

    def _finish(self) -> None:
        """The parts are there: the same for all."""
        self.head.addWidget(self.reset)
        self.column.addWidget(self.note)
        self.column.addWidget(self.problem)
        self.label.setBuddy(self.part)
        self.part.setAccessibleName(self.entry.label)
        self.part.setAccessibleDescription(self.entry.explanation)
        self.part.installEventFilter(self)
        self.installEventFilter(self)
        self.dress()

    def _write(self, value: Any) -> None:
        raise NotImplementedError

    def _edit(self, value: Any) -> None:
        self.edited.emit(self.entry.name, value)


class SwitchControl(Control):
    """Yes or no."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.switch = Switch()
        self.head.addWidget(self.switch)
        self._finish()
        self.switch.toggled.connect(self._edit)

    @property
    def part(self) -> QWidget:
        return self.switch

    def _write(self, value: Any) -> None:
        quietly(self.switch, lambda: self.switch.setChecked(value))


class ChoiceControl(Control):
    """One of the setting's choices."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.choice = Choice()
        self.choice.addItems(list(entry.setting.choices or ()))
        self.head.addWidget(self.choice, 1)
        self._finish()
        self.choice.currentTextChanged.connect(self._edit)

    @property
    def part(self) -> QWidget:
        return self.choice

    def _write(self, value: Any) -> None:
        text = str(value)

        def write() -> None:
            if self.choice.findText(text) < 0:  # one with a number, such as cuda:1
                self.choice.addItem(text)
            self.choice.setCurrentText(text)

        quietly(self.choice, write)


class WordsControl(Control):
    """Free text."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.words = QLineEdit()
        self.words.setPlaceholderText(str(entry.default) or "none")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.words, 1)
        self.column.addLayout(row)
        self.more: QToolButton | None = None
        if entry.setting.offers or entry.setting.pick is not None:
            self.more = small_button("plus", f"{entry.label}: choose", "Choose")
            self.more.clicked.connect(self._offer)
            row.addWidget(self.more)
        self._finish()
        self.words.editingFinished.connect(self._finished)
        self._shown = ""  # the value of the setting, as it was shown last

    @property
    def part(self) -> QWidget:
        return self.words

    def dress(self) -> None:
        super().dress()
        if self.more is not None:
            self.more.setIcon(icon("plus", size=16))

    def _offer(self) -> None:
        button = self.more
        assert button is not None, "this is its click"
        menu = offers_menu(self.entry, self._shown, self._edit, self)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(button.mapToGlobal(button.rect().bottomLeft()))

    def _finished(self) -> None:
        if self.words.text() != self._shown:
            self._edit(self.words.text())

    def _write(self, value: Any) -> None:
        # What somebody is in the midst of typing is theirs: a change that somebody else makes must not take it away.
        typing = self.words.hasFocus() and self.words.text() != self._shown
        self._shown = value
        if not typing:
            self.words.setText(value)


class NumberControl(Control):
    """A number: to slide where its range has not too many steps, and to type in any case."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        known = entry.setting
        whole = entry.kind is int
        self._step = known.step or (1 if whole else 0.01)
        self._low = known.low if known.low is not None else (-_LARGEST_WHOLE if whole else -1e6)
        high = known.high if known.high is not None else (_LARGEST_WHOLE if whole else 1e6)
        self.box = whole_box() if whole else number_box()
        if isinstance(self.box, QSpinBox):
            self.box.setRange(int(self._low), min(int(high), _LARGEST_WHOLE))
            self.box.setSingleStep(max(1, int(self._step)))
        else:
            self.box.setDecimals(_decimals(self._step))
            self.box.setRange(self._low, high)
            self.box.setSingleStep(self._step)
        self._shown = 0.0
        if known.open_value:
            self.box.setSpecialValueText(known.open_value)
        if known.unit:
            self.box.setSuffix(f" {_SHORT_UNITS.get(known.unit, known.unit)}")
        self.box.setProperty("role", "value")
        self.head.addWidget(self.box)
        positions = round((high - self._low) / self._step)
        self.slider = Slider() if positions <= _MOST_POSITIONS else None
        if self.slider is not None:
            self.slider.setRange(0, positions)
            self.slider.setPageStep(max(1, positions // 10))
            self.slider.setAccessibleName(entry.label)
            self.slider.installEventFilter(self)
            self.column.addWidget(self.slider)
            self.slider.valueChanged.connect(lambda at: self._edit(self._at(at)))
        self._finish()
        self.box.valueChanged.connect(self._typed)

    @property
    def part(self) -> QWidget:
        return self.slider or self.box

    def _at(self, position: int) -> float | int:
        value = self._low + position * self._step
        return round(value) if self.entry.kind is int else round(value, 6)

    def _typed(self, value: float) -> None:
        known = self.entry.setting
        if known.open_value and value:
            # Between an open value and the least one there is nothing: a step leads from one to the other.
            down = value < known.least <= self._shown
            value = 0 if down else max(known.least, round(value / self._step) * self._step)
        self._edit(int(value) if self.entry.kind is int else round(value, 6))

    def _write(self, value: Any) -> None:
        self._shown = value
        quietly(self.box, lambda: self.box.setValue(value))
        slider = self.slider
        if slider is not None:
            quietly(slider, lambda: slider.setValue(round((value - self._low) / self._step)))


def control_for(entry: Entry) -> Control:
    """The control that suits the setting."""
    if entry.setting.choices is not None:
        return ChoiceControl(entry)
    if entry.kind is bool:
        return SwitchControl(entry)
    if entry.kind in (int, float):
        return NumberControl(entry)
    return WordsControl(entry)


_SHORT_UNITS = {"pixels": "px", "milliseconds": "ms", "seconds": "s"}


def _decimals(step: float) -> int:
    return max(0, len(f"{step:g}".partition(".")[2])) if step >= 1e-4 else 6
