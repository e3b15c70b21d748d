"""The one place where the window changes settings: every change goes through here, and can be undone."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QObject, Signal

from app.catalogue import Entry, catalogue, spoken, value_of
from app.session import Session
from app.settings import Settings
from app.settings_owner import SettingsChanged
from app.standing import Standing
from pipeline.setting import Value


class Editor(QObject):
    """Edits a session's settings for the window; it keeps none of its own.

    What it shows are the settings as they are wanted: a limit of memory is not one of them, and is told apart from them
    (``Standing.notes``).

    Signals:
        changed: the settings stand otherwise, whoever changed them; on the window's thread.
        refused: name and reason of a value that could not be taken.
    """

    changed = Signal()
    refused = Signal(str, str)
    _other = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._owner = session.owner
        self.entries: Mapping[str, Entry] = catalogue()
        # Qt brings what another thread emits to the thread of this object.
        self._other.connect(self._tell)
        self._end_listening = self._owner.listen(self._other.emit)

    def close(self) -> None:
        """Follow the settings no more: the window is gone."""
        self._end_listening()

    @property
    def standing(self) -> Standing:
        """How the settings stand now."""
        return self._owner.standing

    @property
    def settings(self) -> Settings:
        """The settings that are wanted now."""
        return self._owner.standing.wanted

    @property
    def undo_label(self) -> str | None:
        """What ``undo`` would take back; None where there is nothing."""
        return self._owner.undo_label

    @property
    def redo_label(self) -> str | None:
        """What ``redo`` would do again; None where there is nothing."""
        return self._owner.redo_label

    def has(self, name: str) -> bool:
        """Whether there is a setting of that name."""
        return name in self.entries

    def value(self, name: str) -> Value:
        """The value of one setting that is wanted."""
        return value_of(self.settings, self.entries[name])

    def text(self, name: str) -> str:
        """The value of a setting that is a text."""
        return str(self.value(name))

    def is_chosen(self, name: str) -> bool:
        """Whether a person has chosen the value, also where it is the default."""
        return name in self.standing.chosen

    def unchosen(self, name: str) -> str:
        """What the setting would be if nobody chose, and whose wish that is: ``10, as Vitrail mini recommends``."""
        standing = self.standing
        value = spoken(value_of(standing.unchosen, self.entries[name])) or "nothing"
        recommends = name in standing.recommended and standing.model
        return f"{value}, as {standing.model} recommends" if recommends else f"{value}, the default"

    def change(self, **values: Value) -> bool:
        """Choose these values, as one step. False where a value was refused, which ``refused`` tells."""
        try:
            self._owner.choose(values)
        except ValueError as error:
            self.refused.emit(next(iter(values)), f"{str(error)[:1].upper()}{str(error)[1:]}.")
            return False
        return True

    def adopt(self, values: Mapping[str, Value], label: str) -> None:
        """Have these values, a preset's, as one step."""
        self._owner.adopt(values, label)

    def reset(self, name: str) -> None:
        """Choose nothing for this setting: what the model recommends, or the default, holds again."""
        self._owner.unchoose(name)

    def lift_limits(self) -> None:
        """Try again with all the memory that the settings ask for."""
        self._owner.lift_limits()

    def undo(self) -> None:
        """Take the last step back."""
        self._owner.undo()

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        self._owner.redo()

    def _tell(self, _: SettingsChanged) -> None:
        self.changed.emit()
