"""The bar over the picture: where it comes from, how it is shown, and where it goes."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from ui import theme
from ui.actions import Actions
from ui.icons import icon
from ui.inputs import Segments
from ui.layout import Mode

_MODES = (
    (Mode.OUTPUT, "view_output", "Output"),
    (Mode.INPUT, "view_input", "Input"),
    (Mode.SIDE, "view_side", "Both"),
    (Mode.SPLIT, "view_split", "Split"),
    (Mode.HINT, "view_hint", "Hint"),
)


class Dot(QWidget):
    """A small light: lit while a camera or screen is being watched, or a file is being written."""

    def __init__(self) -> None:
        super().__init__()
        self._colour = ""
        self.setFixedSize(10, 10)

    def light(self, colour: str) -> None:
        """Show this colour; none for off."""
        self._colour = colour
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._colour or theme.current().strong_line))
        painter.drawEllipse(1, 1, 8, 8)
        painter.end()


class SourceButton(QPushButton):
    """What is being watched, by name, and whether it is."""

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self._icon = "film"
        self.setIconSize(QSize(20, 20))
        self.setMaximumWidth(280)
        self.setToolTip(actions["source"].toolTip())
        self.clicked.connect(actions["source"].trigger)

    def show_source(self, name: str, drawing: str) -> None:
        """Name it."""
        self._icon = drawing
        self.setText(self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideMiddle, 200))
        self.setAccessibleName(f"Source: {name}")
        self.dress()

    def dress(self) -> None:
        """Draw the icon in the theme's colours."""
        self.setIcon(icon(self._icon))


class Toolbar(QWidget):
    """The bar.

    Signals:
        mode_chosen: output, input, side by side, split or hint.
    """

    mode_chosen = Signal(object)

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.source = SourceButton(actions)
        self.watching = Dot()
        self.watched = QLabel()
        self.watched.setProperty("role", "muted")
        self.segments = Segments()
        self.modes: dict[Mode, QToolButton] = {}
        self._add_modes(actions)
        self.recording_time = QLabel()
        self.recording_time.setProperty("role", "recording")
        self.recording_time.hide()
        self.buttons = {name: actions.button(name) for name in _BUTTONS}
        self._arrange()

    def show_mode(self, mode: Mode) -> None:
        """Mark how the picture is shown."""
        self.modes[mode].setChecked(True)

    def show_watching(self, text: str) -> None:
        """Say what is being watched of the user; empty for nothing."""
        self.watching.light(theme.current().good if text else "")
        self.watched.setText(text)
        for part in (self.watching, self.watched):
            part.setVisible(bool(text))

    def show_recording(self, time: str) -> None:
        """How long the recording is; empty for none."""
        self.recording_time.setText(f"● {time}")
        self.recording_time.setVisible(bool(time))

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        self.source.dress()

    def _add_modes(self, actions: Actions) -> None:
        for mode, name, text in _MODES:
            choose = partial(self.mode_chosen.emit, mode)
            button = self.segments.add(text, choose)
            button.setToolTip(actions[name].toolTip())
            button.setAccessibleName(actions[name].text())
            actions.connect(name, choose)
            self.modes[mode] = button

    def _arrange(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 9, 12, 9)
        row.setSpacing(6)
        row.addWidget(self.source)
        row.addWidget(self.buttons["pause"])
        row.addSpacing(4)
        row.addWidget(self.watching)
        row.addWidget(self.watched)
        row.addStretch(1)
        row.addWidget(self.segments)
        row.addStretch(1)
        row.addWidget(self.recording_time)
        for name in ("snapshot", "record", "virtual_camera"):
            row.addWidget(self.buttons[name])
        row.addWidget(_divider())
        for name in ("zoom", "clean_feed", "full_screen"):
            row.addWidget(self.buttons[name])
        row.addWidget(_divider())
        for name in ("theme", "shortcuts", "panel"):
            row.addWidget(self.buttons[name])
        for button in self.buttons.values():
            button.setIconSize(QSize(20, 20))


_BUTTONS = (
    "pause",
    "snapshot",
    "record",
    "virtual_camera",
    "zoom",
    "clean_feed",
    "full_screen",
    "theme",
    "shortcuts",
    "panel",
)


def _divider() -> QFrame:
    line = QFrame()
    line.setFixedSize(1, 22)
    line.setProperty("role", "divider")
    line.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    return line
