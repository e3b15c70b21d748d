"""Everything that can be asked of the window by key: one table, of which buttons, shortcuts and help are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QToolButton, QWidget

from ui.icons import icon
from ui.theme import current


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do.

    Attributes:
        name: by which the code knows it.
        text: for people.
        keys: shortcuts, the first of which is shown.
        icon: of ``assets/icons``.
        section: under which the help lists it.
        checkable: whether it is on or off.
    """

    name: str
    text: str
    keys: tuple[str, ...]
    icon: str
    section: str
    checkable: bool = False


COMMANDS = (
    Command("prompt", "Go to the prompt", ("Ctrl+L",), "brush", "Words and look"),
    Command("undo", "Undo the last change", ("Ctrl+Z",), "undo", "Words and look"),
    Command("redo", "Redo", ("Ctrl+Shift+Z", "Ctrl+Y"), "redo", "Words and look"),
    Command("shuffle", "Shuffle the seed", ("Ctrl+N",), "shuffle", "Words and look"),
    Command("presets", "Presets", ("Ctrl+P",), "preset", "Words and look"),
    Command("source", "Choose a source", ("Ctrl+O",), "camera", "Source and model"),
    Command("pause", "Pause: the source is closed", ("Ctrl+Space",), "pause", "Source and model", True),
    Command("canvas", "Paint on the canvas", ("Ctrl+K",), "brush", "Source and model"),
    Command("model", "Choose a model", ("Ctrl+M",), "cube", "Source and model"),
    Command("snapshot", "Save a snapshot", ("Ctrl+S",), "snapshot", "Take with you"),
    Command("record", "Record a video", ("Ctrl+R",), "record", "Take with you", True),
    Command("virtual_camera", "Virtual camera", ("Ctrl+B",), "broadcast", "Take with you", True),
    Command("view_output", "Output", ("Ctrl+1",), "view-output", "View"),
    Command("view_input", "Input", ("Ctrl+2",), "view-input", "View"),
    Command("view_side", "Side by side", ("Ctrl+3",), "view-side", "View"),
    Command("view_split", "Before and after", ("Ctrl+4",), "view-split", "View"),
    Command("zoom", "Actual size", ("Ctrl+0",), "one-to-one", "View", True),
    Command("full_screen", "Full screen", ("F11", "Ctrl+F"), "fullscreen", "Window", True),
    Command("clean_feed", "Clean feed window, for OBS", ("F2",), "popout", "Window", True),
    Command("on_top", "Stay on top", ("Ctrl+T",), "pin", "Window", True),
    Command("panel", "Controls beside the picture", ("Ctrl+\\",), "panel", "Window", True),
    Command("theme", "Light or dark", ("Ctrl+D",), "sun", "Window"),
    Command("shortcuts", "These shortcuts", ("?", "F1"), "help", "Window"),
    Command("quit", "Quit", ("Ctrl+Q",), "close", "Window"),
)


class Actions:
    """The commands as Qt's actions, in reach of their shortcuts anywhere in ``window``."""

    def __init__(self, window: QWidget) -> None:
        self._actions: dict[str, QAction] = {}
        for command in COMMANDS:
            action = QAction(command.text, window)
            action.setShortcuts([QKeySequence(key) for key in command.keys])
            action.setCheckable(command.checkable)
            action.setToolTip(f"{command.text}  ({shown_key(command.keys[0])})")
            window.addAction(action)
            self._actions[command.name] = action
        self.dress()

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def connect(self, name: str, act: Callable[[], object]) -> None:
        """Do ``act`` when this is asked."""
        self._actions[name].triggered.connect(lambda _=False: act())

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        for command in COMMANDS:
            checked = current().bad if command.name == "record" else None
            self._actions[command.name].setIcon(icon(command.icon, checked=checked))

    def show_paused(self, paused: bool) -> None:
        """The pause button goes on from a pause."""
        self._actions["pause"].setChecked(paused)
        self._actions["pause"].setIcon(icon("play" if paused else "pause"))

    def button(self, name: str, role: str = "ghost") -> QToolButton:
        """A button for it, with its icon only."""
        action = self._actions[name]
        button = QToolButton()
        button.setProperty("role", role)
        button.setDefaultAction(action)
        button.setAccessibleName(action.text())
        return button


def asks(event: QKeyEvent, name: str) -> bool:
    """Whether a press of a key is a shortcut of the command ``name``: for who has a meaning of their own for it."""
    pressed = QKeySequence(event.keyCombination())
    return any(pressed == QKeySequence(key) for one in COMMANDS if one.name == name for key in one.keys)


def shown_key(key: str) -> str:
    """The shortcut as this system writes it."""
    return QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText)
