"""Files dropped on the window: looks and weights are taken up, clips are watched, and of a picture it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QMenu, QWidget

from app.presets import SUFFIX
from app.sources.images import IMAGE_SUFFIXES
from app.weights_file import SUFFIX as WEIGHTS
from ui.choice import Choice
from ui.dialogs import Dialogs
from ui.presets import Presets
from ui.references import References
from ui.sources import SourceSwitch


class Drops:
    """Takes what is dropped on ``window``."""

    def __init__(
        self, window: QWidget, presets: Presets, switch: SourceSwitch, models: Dialogs, references: References
    ) -> None:
        self._window = window
        self._presets = presets
        self._switch = switch
        self._models = models
        self._references = references

    def take(self, paths: Sequence[str], at: QPoint) -> QMenu | None:
        """Take the first path that names something on this machine.

        Args:
            at: where on the window it was dropped.

        Returns:
            Where there is more than one thing to do with it, the menu that asks.
        """
        name = next(filter(None, paths), None)
        if name is None:
            return None
        path = Path(name)
        suffix = path.suffix.lower()
        if suffix == SUFFIX:
            self._presets.take(path)
        elif suffix == WEIGHTS:
            self._models.take_weights(path)
        elif suffix == ".png" and self._presets.take_snapshot(path):
            pass
        elif suffix in IMAGE_SUFFIXES:
            return self._ask(path, at)
        else:
            self._watch(path)
        return None

    def _watch(self, path: Path) -> None:
        self._switch.choose(Choice(str(path), path.name))

    def _ask(self, path: Path, at: QPoint) -> QMenu:
        uses: dict[str, Callable[[], object]] = {"Show it as the source": lambda: self._watch(path)}
        menu = QMenu(self._window)
        for text, act in (uses | self._references.uses(path)).items():
            menu.addAction(text).triggered.connect(lambda _=False, act=act: act())
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self._window.mapToGlobal(at))
        return menu
