"""Undo and redo of a person's choices. A step is a difference, so that it takes back what the person did, no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.setting import Value

KEPT_EDITS = 500
# Changes of the same setting within this time are one step: nobody wants to undo a slider pixel by pixel.
MERGE_SECONDS = 0.8

# For each setting that changed, what was chosen before and after; None where nothing was chosen.
Difference = Mapping[str, tuple[Value | None, Value | None]]


def difference(before: Mapping[str, Value], after: Mapping[str, Value]) -> Difference:
    """What changed between two sets of choices."""
    pairs = {name: (before.get(name), after.get(name)) for name in (*before, *after)}
    return {name: (old, new) for name, (old, new) in pairs.items() if _other(old, new)}


def changed(choices: Mapping[str, Value], new: Mapping[str, Value | None]) -> dict[str, Value]:
    """``choices`` with these values; a value of None is no choice."""
    merged: dict[str, Value | None] = {**choices, **new}
    return {name: value for name, value in merged.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Edit:
    """One step.

    Attributes:
        label: what was changed, for people: ``strength``.
        difference: which choices it changed, and how.
        at: seconds, by the history's clock, when it was last added to.
    """

    label: str
    difference: Difference
    at: float


class UndoHistory:
    """The steps that were taken, and those that were taken back. Not safe between threads.

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

    def record(self, label: str, step: Difference) -> None:
        """``label`` was changed. Soon after a change of the same name, it belongs to that one."""
        if not step:
            return
        now = self._clock()
        last = self._past[-1] if self._past else None
        merges = last is not None and last.label == label and not self._future and now - last.at < MERGE_SECONDS
        self._future.clear()
        if last is not None and merges:
            self._past.pop()
            step = _merged(last.difference, step)
        if step:
            self._past.append(Edit(label, step, now))
            del self._past[:-KEPT_EDITS]

    def forget(self, name: str, value: Value) -> None:
        """``name`` could not be set to ``value``, which therefore is no step, neither to take back nor to do again."""
        self._past = _without(self._past, name, value)
        self._future = _without(self._future, name, value)

    def undo(self) -> dict[str, Value | None] | None:
        """The choices before the last step, for ``changed``; ``redo`` does it again. None where there is no step."""
        if not self._past:
            return None
        edit = self._past.pop()
        self._future.append(edit)
        return {name: before for name, (before, _) in edit.difference.items()}

    def redo(self) -> dict[str, Value | None] | None:
        """The choices after the step that was undone last, for ``changed``. None where there is none."""
        if not self._future:
            return None
        edit = self._future.pop()
        # Not to be merged with what follows: that would swallow the step that was just done again.
        self._past.append(Edit(edit.label, edit.difference, float("-inf")))
        return {name: after for name, (_, after) in edit.difference.items()}


def _without(edits: list[Edit], name: str, value: Value) -> list[Edit]:
    left = []
    for edit in edits:
        step = {one: pair for one, pair in edit.difference.items() if not (one == name and pair[1] == value)}
        if step:
            left.append(replace(edit, difference=step))
    return left


def _merged(first: Difference, second: Difference) -> Difference:
    pairs = {
        name: ((first.get(name) or second[name])[0], (second.get(name) or first[name])[1]) for name in (*first, *second)
    }
    return {name: (old, new) for name, (old, new) in pairs.items() if _other(old, new)}


def _other(old: Value | None, new: Value | None) -> bool:
    # True and 1 are equal in Python, and are two choices all the same.
    return old != new or type(old) is not type(new)
