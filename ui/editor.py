"""The one place where the window changes settings: every change goes through here, and can be undone."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal

from app.session import Session
from app.settings import Settings
from app.undo import UndoHistory
from ui.catalogue import Entry, entries, value_of, with_values


class Editor(QObject):
    """Edits a session's settings; it keeps none of its own.

    Signals:
        changed: the settings are other ones, whoever changed them.
        refused: name and reason of a value that could not be taken.
    """

    changed = Signal(object)
    refused = Signal(str, str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.entries: dict[str, Entry] = entries()
        self.history = UndoHistory()

    @property
    def settings(self) -> Settings:
        """The settings of now."""
        return self._session.settings

    def has(self, name: str) -> bool:
        """Whether there is a setting of that name."""
        return name in self.entries

    def value(self, name: str) -> Any:
        """The value of one setting."""
        return value_of(self.settings, self.entries[name])

    def change(self, **values: Any) -> bool:
        """Set these settings, as one step. False where a value was refused, which ``refused`` tells."""
        before = self.settings
        try:
            after = with_values(before, self.entries, **values)
        except ValueError as error:
            self.refused.emit(next(iter(values)), f"{str(error)[:1].upper()}{str(error)[1:]}.")
            return False
        self.replace(after, " and ".join(self.entries[name].label.lower() for name in values))
        return True

    def replace(self, settings: Settings, label: str) -> None:
        """Go on with other settings altogether, as one step."""
        before = self.settings
        if settings == before:
            return
        self.history.record(label, before, settings)
        self._apply(settings)

    def reset(self, name: str) -> None:
        """Back to the default."""
        self.change(**{name: self.entries[name].default})

    def undo(self) -> None:
        """Take the last step back."""
        settings = self.history.undo()
        if settings is not None:
            self._apply(settings)

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        settings = self.history.redo()
        if settings is not None:
            self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        self._session.update(settings)
        self.changed.emit(settings)
