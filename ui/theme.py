"""How everything looks: two palettes, one type scale, and the style sheet that is written from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from string import Template

from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication

_STYLE = Path(__file__).with_name("theme.qss")
# The first that the system has; the last resort is Qt's own choice.
_FAMILIES = ("Inter", "Segoe UI Variable Text", "Segoe UI", "SF Pro Text", "Helvetica Neue", "Cantarell", "Noto Sans")


class Appearance(Enum):
    """Which palette."""

    DARK = "dark"
    LIGHT = "light"

    @property
    def other(self) -> Appearance:
        """The one that this is not."""
        return Appearance.LIGHT if self is Appearance.DARK else Appearance.DARK


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as ``#rrggbb``, sizes in logical pixels.

    Attributes:
        stage: around the picture.
        ground, surface, raised, hover: from the back to the front.
        line, strong_line: hairlines, and the edges of menus and cards.
        control: what shows where a control is: the edge of a box, the groove of a slider, a switch that is off.
        text, muted, faint: by importance.
        accent, accent_soft, on_accent: what is chosen, a tint of it, and text on it.
        good, warn, bad, bad_soft: states.
    """

    appearance: Appearance
    stage: str
    ground: str
    surface: str
    raised: str
    hover: str
    line: str
    strong_line: str
    control: str
    text: str
    muted: str
    faint: str
    accent: str
    accent_soft: str
    on_accent: str
    good: str
    warn: str
    bad: str
    bad_soft: str


DARK = Theme(
    appearance=Appearance.DARK,
    stage="#0a0b0e",
    ground="#101217",
    surface="#15181e",
    raised="#1e222a",
    hover="#282d37",
    line="#23272f",
    strong_line="#323844",
    control="#6a7284",
    text="#edeff4",
    muted="#a3a9b8",
    faint="#8b92a3",
    accent="#8fa4ff",
    accent_soft="#262d4b",
    on_accent="#0d1020",
    good="#57cc99",
    warn="#f2bd5c",
    bad="#ff6b70",
    bad_soft="#3a1d22",
)

LIGHT = Theme(
    appearance=Appearance.LIGHT,
    stage="#dfe2e9",
    ground="#f3f4f7",
    surface="#ffffff",
    raised="#eef0f4",
    hover="#e3e6ed",
    line="#e2e5eb",
    strong_line="#cbd0da",
    control="#7b8292",
    text="#191c24",
    muted="#565d6d",
    faint="#5f6676",
    accent="#4458d8",
    accent_soft="#e3e7fd",
    on_accent="#ffffff",
    good="#14724a",
    warn="#8a5900",
    bad="#bd2731",
    bad_soft="#fdeaeb",
)

_WORN = "vitrailTheme"  # the application's property that names what it wears
_THEMES = {Appearance.DARK: DARK, Appearance.LIGHT: LIGHT}
_current = DARK


def current() -> Theme:
    """The theme that was applied last."""
    return _current


def apply(application: QApplication, appearance: Appearance) -> Theme:
    """Dress the whole application. Widgets that paint themselves read ``current()`` when they paint.

    Only what changes is set: Qt works through every widget for it, which takes a third of a second for a window.
    """
    global _current
    _current = theme = _THEMES[appearance]
    worn = application.property(_WORN)
    if worn is None:
        application.setStyle("Fusion")  # the one style of Qt that follows a style sheet alike on every system
        font = QFont()
        font.setFamilies([*_FAMILIES, *font.families()])
        font.setPixelSize(13)
        application.setFont(font)
    if worn != appearance.value:
        application.setPalette(_palette(theme))
        application.setStyleSheet(stylesheet(theme))
        application.setProperty(_WORN, appearance.value)
    return theme


def link(target: str, text: str) -> str:
    """A link in rich text, in the colour of now: a label keeps the colour that it was first shown in."""
    return f"<a href='{target}' style='color: {_current.accent}'>{text}</a>"


def stylesheet(theme: Theme) -> str:
    """Qt's style sheet in this theme's colours."""
    colours = {name: value for name, value in dataclasses.asdict(theme).items() if isinstance(value, str)}
    return Template(_STYLE.read_text(encoding="utf-8")).substitute(colours)


def _palette(theme: Theme) -> QPalette:
    palette = QPalette()
    roles = {
        QPalette.ColorRole.Window: theme.ground,
        QPalette.ColorRole.WindowText: theme.text,
        QPalette.ColorRole.Base: theme.raised,
        QPalette.ColorRole.AlternateBase: theme.surface,
        QPalette.ColorRole.Text: theme.text,
        QPalette.ColorRole.PlaceholderText: theme.faint,
        QPalette.ColorRole.Button: theme.raised,
        QPalette.ColorRole.ButtonText: theme.text,
        QPalette.ColorRole.ToolTipBase: theme.raised,
        QPalette.ColorRole.ToolTipText: theme.text,
        QPalette.ColorRole.Highlight: theme.accent,
        QPalette.ColorRole.HighlightedText: theme.on_accent,
        QPalette.ColorRole.Link: theme.accent,
    }
    for role, colour in roles.items():
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.WindowText, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(theme.faint))
    return palette
