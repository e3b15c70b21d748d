"""Undo and redo of settings."""

from __future__ import annotations

from app.settings import Settings
from app.undo import KEPT_EDITS, MERGE_SECONDS, UndoHistory


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def states(count: int) -> list[Settings]:
    return [Settings(width=64 + 8 * index) for index in range(count)]


def test_steps_are_taken_back_and_done_again():
    clock = Clock()
    history = UndoHistory(clock)
    a, b, c = states(3)
    history.record("width", a, b)
    history.record("mirror", b, c)
    assert (history.undo_label, history.redo_label) == ("mirror", None)
    assert history.undo() is b
    assert history.undo() is a
    assert history.undo() is None
    assert (history.undo_label, history.redo_label) == (None, "width")
    assert history.redo() is b
    assert history.redo() is c
    assert history.redo() is None


def test_a_drag_of_a_slider_is_one_step():
    clock = Clock()
    history = UndoHistory(clock)
    a, b, c, d = states(4)
    history.record("strength", a, b)
    clock.now += MERGE_SECONDS / 2
    history.record("strength", b, c)
    clock.now += MERGE_SECONDS
    history.record("strength", c, d)
    assert history.undo() is c
    assert history.undo() is a
    assert history.redo() is c


def test_a_step_done_again_does_not_swallow_the_next():
    history = UndoHistory(Clock())
    a, b, c = states(3)
    history.record("strength", a, b)
    history.undo()
    history.redo()
    history.record("strength", b, c)
    assert history.undo() is b


def test_a_new_step_ends_what_could_be_done_again():
    history = UndoHistory(Clock())
    a, b, c = states(3)
    history.record("strength", a, b)
    history.undo()
    history.record("strength", a, c)
    assert history.redo() is None
    assert history.undo() is a


def test_no_change_is_no_step_and_old_steps_go():
    clock = Clock()
    history = UndoHistory(clock)
    a, b = states(2)
    history.record("width", a, a)
    assert history.undo_label is None
    for _ in range(KEPT_EDITS + 5):
        clock.now += 10
        history.record("width", a, b)
    taken = 0
    while history.undo() is not None:
        taken += 1
    assert taken == KEPT_EDITS
