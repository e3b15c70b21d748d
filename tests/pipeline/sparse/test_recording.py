"""When what windows have to know of the whole is recorded."""

from __future__ import annotations

from pipeline.sparse.recording import RECORD_AFTER, RECORD_EVERY, Recording


def test_the_first_cut_of_a_run_is_recorded_and_few_after_it() -> None:
    state, recorded = Recording(), []
    for number in range(2 * RECORD_EVERY + 1):
        due = state.due(cut=True, wanted=False)
        state = state.after_whole(cut=True, wanted=False, recorded=due)
        assert state.stale == (not due)
        if due:
            recorded.append(number)
    assert recorded == [0, RECORD_EVERY, 2 * RECORD_EVERY]
    assert state.after_windows().due(cut=True, wanted=False), "that was a run of its own"


def test_after_a_cut_it_is_recorded_once_windows_were_wanted_in_a_row() -> None:
    state = Recording()
    for number in range(1, RECORD_AFTER + 1):
        due = state.due(cut=False, wanted=True)
        assert due == (number == RECORD_AFTER)
        state = state.after_whole(cut=False, wanted=True, recorded=due)
    assert not state.stale
    interrupted = Recording().after_whole(cut=False, wanted=True, recorded=False)
    interrupted = interrupted.after_whole(cut=False, wanted=False, recorded=False)
    assert not interrupted.due(cut=False, wanted=True)


def test_what_is_just_much_to_compute_leaves_it_as_it_is() -> None:
    fresh = Recording().after_whole(cut=True, wanted=False, recorded=True)
    assert not fresh.after_whole(cut=False, wanted=False, recorded=False).stale
    assert fresh.after_whole(cut=True, wanted=False, recorded=False).stale


def test_a_network_that_is_not_there_yet_is_asked_for_at_each_call() -> None:
    state = Recording()
    for _ in range(RECORD_AFTER + 3):
        state = state.after_whole(cut=False, wanted=True, recorded=False)
    assert state.due(cut=False, wanted=True)
    assert state.stale
