"""What the window remembers of itself between two runs. Free of Qt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from app.json_files import read_kept, write_json
from app.settings import default_path


@dataclass(frozen=True, slots=True)
class WindowState:
    """Where the window was and how it looked.

    Attributes:
        geometry: Qt's own description, in base 64; empty for the default.
        theme: ``dark`` or ``light``.
        mode: how the picture is shown (``ui.layout.Mode``).
        panel, on_top: what was open, and whether it stays in front.
        source: what was watched, as ``open_source`` takes it; empty for what is first where nothing is known.
        page: of the column beside the picture, counted from 0.
        seed_held: whether the seed stays where the prompt changes.
        start_seconds: from the window to the first picture; 0 where that is not known.
        folded: titles of the sections that were closed, and
        unfolded: of those that were opened, against their default.
    """

    geometry: str = ""
    theme: str = "dark"
    mode: str = "output"
    panel: bool = True
    on_top: bool = False
    source: str = ""
    page: int = 0
    seed_held: bool = True
    start_seconds: float = 0.0
    folded: tuple[str, ...] = ()
    unfolded: tuple[str, ...] = ()


def state_path() -> Path:
    """Beside the settings."""
    return default_path().with_name("window.json")


def load_state(path: Path) -> WindowState:
    """What was kept; the defaults where nothing was, or nothing that makes sense: no loss that is worth a word."""
    found = read_kept(path)
    if not isinstance(found, dict):
        return WindowState()
    taken = {}
    for field in dataclasses.fields(WindowState):
        value = found.get(field.name, field.default)
        if isinstance(field.default, tuple):
            value = tuple(part for part in value if isinstance(part, str)) if isinstance(value, list) else ()
        if isinstance(value, type(field.default)):
            taken[field.name] = value
    return WindowState(**taken)


def save_state(state: WindowState, path: Path) -> None:
    """Keep it. Raises ``OSError``."""
    write_json(path, dataclasses.asdict(state))
