"""Files dropped on the window: looks and weights are taken up, pictures and clips are watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.presets import SUFFIX
from app.weights_file import SUFFIX as WEIGHTS
from ui.choice import Choice
from ui.dialogs import Dialogs
from ui.presets import Presets
from ui.sources import SourceSwitch


def drop(paths: Sequence[str], presets: Presets, switch: SourceSwitch, models: Dialogs) -> None:
    """Take what was dropped: the first path that names something on this machine."""
    for name in filter(None, paths):
        path = Path(name)
        if path.suffix.lower() == SUFFIX:
            presets.take(path)
        elif path.suffix.lower() == WEIGHTS:
            models.take_weights(path)
        elif path.suffix.lower() != ".png" or not presets.take_snapshot(path):
            switch.choose(Choice(str(path), path.name))
        return
