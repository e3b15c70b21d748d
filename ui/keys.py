"""Which keys ask for what, on each system. Free of Qt; keys are written as ``QKeySequence`` reads them.

On macOS ``Ctrl`` is the command key and ``Meta`` the control key. The system takes some keys before a window sees them
(``MACOS_TAKES``), and many keyboards need AltGr or Option for brackets, backslash and the like, with which no shortcut
is typed: no command depends on either.
"""

from __future__ import annotations

import sys

# Spotlight, the input sources, minimise, hide, the next window, and what Mission Control has.
MACOS_TAKES = frozenset({"Ctrl+Space", "Meta+Space", "Ctrl+M", "Ctrl+H", "Ctrl+Tab", "Ctrl+`", "F11", "F12"})
HARD_TO_TYPE = frozenset("\\[]{}@|~`#^")

_KEYS = {
    "prompt": ("Ctrl+L",),
    "style": ("1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "undo": ("Ctrl+Z",),
    "redo": ("Ctrl+Shift+Z", "Ctrl+Y"),
    "shuffle": ("Ctrl+N",),
    "presets": ("Ctrl+P",),
    "look_now": ("Ctrl+Shift+L",),
    "source": ("Ctrl+O",),
    "pause": ("Ctrl+Space", "Ctrl+Shift+P"),
    "canvas": ("Ctrl+K",),
    "model": ("Ctrl+M",),
    "snapshot": ("Ctrl+S",),
    "record": ("Ctrl+R",),
    "virtual_camera": ("Ctrl+B",),
    "view_output": ("Ctrl+1",),
    "view_input": ("Ctrl+2",),
    "view_side": ("Ctrl+3",),
    "view_split": ("Ctrl+4",),
    "view_hint": ("Ctrl+5",),
    "zoom": ("Ctrl+0",),
    "full_screen": ("F11", "Ctrl+F"),
    "clean_feed": ("F2",),
    "on_top": ("Ctrl+T",),
    "panel": ("Ctrl+J", "Ctrl+\\"),
    "theme": ("Ctrl+D",),
    "shortcuts": ("?", "F1"),
    "quit": ("Ctrl+Q",),
}
_KEYS_ON_MACOS = _KEYS | {
    "pause": ("Ctrl+Shift+P",),
    "model": ("Ctrl+Shift+M",),
    "full_screen": ("Meta+Ctrl+F", "Ctrl+F"),
    "clean_feed": ("Ctrl+Shift+F", "F2"),  # F2 alone changes the brightness of the screen
}


def keys_of(command: str, platform: str = sys.platform) -> tuple[str, ...]:
    """The shortcuts of a command, the first of which is shown, on this (or another) ``sys.platform``."""
    return (_KEYS_ON_MACOS if platform == "darwin" else _KEYS)[command]
