"""Pictures to steer by: one that is dropped or chosen, or the frame of now, as a look or as a background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.files import references_folder
from app.frame import Frame
from app.session import Session
from app.snapshot import SnapshotThread
from pipeline.adapter_list import quoted
from ui.editor import Editor

# What can be done with a picture and that it was done, for people, by the setting that takes it.
_USES = {
    "look_like": ("Look like this picture", "The picture now takes its look from {}."),
    "background": ("Put it behind the person", "{} is now behind the person."),
}


class References(QObject):
    """Gives pictures to the settings that take them.

    Args:
        session, editor: whose.
        newest: the picture that is shown, with the frame that it was made from.

    Signals:
        told: a sentence, and its kind (``done`` or ``error``).
    """

    told = Signal(str, str)
    _saved = Signal()

    def __init__(self, session: Session, editor: Editor, newest: Callable[[], Frame | None], parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._editor = editor
        self._newest = newest
        self._saving: SnapshotThread | None = None
        self._saved.connect(self._take_saved)

    def uses(self, path: Path) -> dict[str, Callable[[], object]]:
        """What can be done with this picture on the model that serves, by name for people."""
        model = self._session.model
        unsupported = {} if model is None else model.unsupported
        known = {text: name for name, (text, _) in _USES.items() if name not in unsupported}
        return {text: lambda name=name: self.take(path, name) for text, name in known.items()}

    def take(self, path: Path, name: str) -> None:
        """Have this picture alone for the setting ``name``."""
        value = quoted(str(path)) if self._editor.entries[name].setting.many else str(path)
        if self._editor.change(**{name: value}):
            self.told.emit(_USES[name][1].format(path.name), "done")

    def look_like_now(self, folder: Path | None = None) -> None:
        """Keep the frame that is shown as a file, and have the picture look like it from then on."""
        model, frame = self._session.model, self._newest()
        if model is not None and "look_like" in model.unsupported:
            self.told.emit(model.unsupported["look_like"], "error")
        elif frame is None:
            self.told.emit("There is no picture yet.", "error")
        elif self._saving is None:
            source = frame.original or frame
            settings = frame.settings or self._session.settings
            self._saving = SnapshotThread(
                source.pixels, settings, frame.model, folder or references_folder(), then=self._saved.emit
            )
            self._saving.start()

    def _take_saved(self) -> None:
        saving, self._saving = self._saving, None
        if saving is None:
            return
        if saving.path is not None:
            self.take(saving.path, "look_like")
        else:
            self.told.emit(str(saving.error), "error")
