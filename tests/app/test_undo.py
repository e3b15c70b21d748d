"""Undo and redo of choices, as differences."""

from __future__ import annotations

from app.undo import KEPT_EDITS, MERGE_SECONDS, UndoHistory, changed, difference


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_difference_tells_what_was_chosen_from_what_was_not() -> None:
    assert difference({"steps": 2, "seed": 5}, {"seed": 5, "mirror": True}) == {
        "steps": (2, None),
        "mirror": (None, True),
    }
    assert difference({}, {"mirror": False}) == {"mirror": (None, False)}
    assert changed({"steps": 2, "seed": 5}, {"steps": None, "mirror": True}) == {"seed": 5, "mirror": True}


def test_steps_are_taken_back_and_done_again() -> None:
    history = UndoHistory(Clock())
    history.record("width", {"width": (None, 64)})
    history.record("mirror", {"mirror": (None, True)})
    assert (history.undo_label, history.redo_label) == ("mirror", None)
    assert history.undo() == {"mirror": None}
    assert history.undo() == {"width": None}
    assert history.undo() is None
    assert (history.undo_label, history.redo_label) == (None, "width")
    assert history.redo() == {"width": 64}
    assert history.redo() == {"mirror": True}
    assert history.redo() is None


def test_a_drag_of_a_slider_is_one_step() -> None:
    clock = Clock()
    history = UndoHistory(clock)
    history.record("strength", {"strength": (None, 0.7)})
    clock.now += MERGE_SECONDS / 2
    history.record("strength", {"strength": (0.7, 0.6)})
    clock.now += MERGE_SECONDS
    history.record("strength", {"strength": (0.6, 0.5)})
    assert history.undo() == {"strength": 0.6}
    assert history.undo() == {"strength": None}
    assert history.redo() == {"strength": 0.6}


def test_a_drag_that_ends_where_it_began_is_no_step() -> None:
    history = UndoHistory(Clock())
    history.record("strength", {"strength": (0.5, 0.7)})
    history.record("strength", {"strength": (0.7, 0.5)})
    assert history.undo_label is None


def test_a_step_done_again_does_not_swallow_the_next() -> None:
    history = UndoHistory(Clock())
    history.record("strength", {"strength": (None, 0.7)})
    history.undo()
    history.redo()
    history.record("strength", {"strength": (0.7, 0.6)})
    assert history.undo() == {"strength": 0.7}


def test_a_step_taken_back_is_not_added_to() -> None:
    history = UndoHistory(Clock())
    history.record("strength", {"strength": (None, 0.7)})
    history.record("mirror", {"mirror": (None, True)})
    history.undo()
    history.record("strength", {"strength": (0.7, 0.6)})
    assert history.redo() is None
    assert history.undo() == {"strength": 0.7}


def test_what_could_not_be_done_is_no_step() -> None:
    history = UndoHistory(iter(range(0, 100, 10)).__next__)
    history.record("strength", {"strength": (None, 0.7)})
    history.record("model", {"model": (None, "missing")})
    history.record("model and seed", {"model": (None, "missing"), "seed": (None, 5)})
    history.forget("model", "missing")
    assert history.undo() == {"seed": None}
    assert history.undo() == {"strength": None}
    assert history.undo() is None


def test_no_change_is_no_step_and_old_steps_go() -> None:
    clock = Clock()
    history = UndoHistory(clock)
    history.record("width", {})
    assert history.undo_label is None
    for _ in range(KEPT_EDITS + 5):
        clock.now += 10
        history.record("width", {"width": (None, 64)})
    taken = 0
    while history.undo() is not None:
        taken += 1
    assert taken == KEPT_EDITS
