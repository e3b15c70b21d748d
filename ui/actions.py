"""Everything that can be asked of the window by key: one table, of which buttons, shortcuts and help are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QToolButton, QWidget

from ui.icons import icon
from ui.keys import keys_of
from ui.theme import current


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do.

    Attributes:
        name: by which the code knows it.
        text: for people.
        icon: of ``assets/icons``.
        section: under which the help lists it.
        checkable: whether it is on or off.
        numbered: each of its keys means another one of what it chooses among; who has these listens to the keys.
    """

    name: str
    text: str
    icon: str
    section: str
    checkable: bool = False
    numbered: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Its shortcuts on this system, the first of which is shown."""
        return keys_of(self.name)

    @property
    def shown_keys(self) -> str:
        """Its first key, or its first and its last, as this system writes them."""
        first = shown_key(self.keys[0])
        return f"{first} … {shown_key(self.keys[-1])}" if self.numbered else first


COMMANDS = (
    Command("prompt", "Go to the prompt", "brush", "Words and look"),
    Command("style", "Choose a style by its place", "brush", "Words and look", numbered=True),
    Command("undo", "Undo the last change", "undo", "Words and look"),
    Command("redo", "Redo", "redo", "Words and look"),
    Command("shuffle", "Shuffle the seed", "shuffle", "Words and look"),
    Command("presets", "Presets", "preset", "Words and look"),
    Command("look_now", "Look like this frame of the source", "image", "Words and look"),
    Command("source", "Choose a source", "camera", "Source and model"),
    Command("pause", "Pause: the source is closed", "pause", "Source and model", True),
    Command("canvas", "Paint on the canvas", "brush", "Source and model"),
    Command("model", "Choose a model", "cube", "Source and model"),
    Command("snapshot", "Save a snapshot", "snapshot", "Take with you"),
    Command("record", "Record a video", "record", "Take with you", True),
    Command("virtual_camera", "Virtual camera", "broadcast", "Take with you", True),
    Command("view_output", "Output", "view-output", "View"),
    Command("view_input", "Input", "view-input", "View"),
    Command("view_side", "Side by side", "view-side", "View"),
    Command("view_split", "Before and after", "view-split", "View"),
    Command("view_hint", "Hint: what the shape is kept by", "view-hint", "View"),
    Command("zoom", "Actual size", "one-to-one", "View", True),
    Command("full_screen", "Full screen", "fullscreen", "Window", True),
    Command("clean_feed", "Clean feed window, for OBS", "popout", "Window", True),
    Command("on_top", "Stay on top", "pin", "Window", True),
    Command("panel", "Controls beside the picture", "panel", "Window", True),
    Command("theme", "Light or dark", "sun", "Window"),
    Command("shortcuts", "These shortcuts", "help", "Window"),
    Command("quit", "Quit", "close", "Window"),
)


class Actions:
    """The commands as Qt's actions, in reach of their shortcuts anywhere in ``window``."""

    def __init__(self, window: QWidget) -> None:
        self._actions: dict[str, QAction] = {}
        for command in COMMANDS:
            action = QAction(command.text, window)
            if not command.numbered:
                action.setShortcuts([QKeySequence(key) for key in command.keys])
            action.setCheckable(command.checkable)
            action.setToolTip(f"{command.text}  ({command.shown_keys})")
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
