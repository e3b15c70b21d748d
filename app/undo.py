"""Undo and redo of settings: since a setting is one immutable value, the past is a list of values."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.settings import Settings

KEPT_EDITS = 500
# Changes of the same setting within this time are one step: nobody wants to undo a slider pixel by pixel.
MERGE_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Edit:
    """One step: the settings before and after it, what it is called, and when it was last added to.

    Attributes:
        label: what was changed, for people: ``strength``.
        settings: as they were before the step.
        after: as they were after it.
        at: seconds, by the history's clock.
    """

    label: str
    settings: Settings
    after: Settings
    at: float


class UndoHistory:
    """What the settings were, and what they were after that.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._past: list[Edit] = []
        self._future: list[Edit] = []

    @property
    def undo_label(self) -> str | None:
        """What ``undo`` would take back; None where there is nothing."""
        return self._past[-1].label if self._past else None

    @property
    def redo_label(self) -> str | None:
        """What ``redo`` would do again; None where there is nothing."""
        return self._future[-1].label if self._future else None

    def record(self, label: str, before: Settings, after: Settings) -> None:
        """``label`` was changed. Soon after a change of the same name, it belongs to that one."""
        if before == after:
            return
        now = self._clock()
        last = self._past[-1] if self._past else None
        merges = last is not None and last.label == label and not self._future and now - last.at < MERGE_SECONDS
        self._future.clear()
        if last is not None and merges:
            self._past[-1] = Edit(label, last.settings, after, now)
            return
        self._past.append(Edit(label, before, after, now))
        del self._past[:-KEPT_EDITS]

    def undo(self) -> Settings | None:
        """The settings before the last step, which ``redo`` does again; None where there is none."""
        if not self._past:
            return None
        edit = self._past.pop()
        self._future.append(edit)
        return edit.settings

    def redo(self) -> Settings | None:
        """The settings after the step that was undone last; None where there is none."""
        if not self._future:
            return None
        edit = self._future.pop()
        # Not to be merged with what follows: that would swallow the step that was just done again.
        self._past.append(Edit(edit.label, edit.settings, edit.after, float("-inf")))
        return edit.after
