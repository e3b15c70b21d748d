"""Pauses are cuts: the times of a recording go on without them, and are otherwise as they were."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.frame import Frame
from app.sinks.takes import Takes

PIXELS = np.zeros((2, 2, 3), np.uint8)


def times_of(*frames: tuple[float, int]) -> list[float]:
    takes = Takes()
    return [takes.joined(Frame(0, at, PIXELS, take=take)).captured_at for at, take in frames]


def test_a_take_follows_the_one_before_by_a_step():
    found = times_of((10.0, 0), (10.1, 0), (60.0, 1), (60.1, 1), (90.0, 3), (90.2, 3), (90.3, 3))
    assert found == pytest.approx([10.0, 10.1, 10.2, 10.3, 10.4, 10.6, 10.7])


def test_a_stall_is_no_pause():
    assert times_of((10.0, 0), (10.1, 0), (60.0, 0)) == [10.0, 10.1, 60.0]


def test_a_pause_after_the_first_picture_or_a_stall_leaves_no_gap():
    assert times_of((10.0, 0), (60.0, 1)) == pytest.approx([10.0, 10.0 + 1 / 30])
    assert times_of((10.0, 0), (60.0, 0), (90.0, 1)) == pytest.approx([10.0, 60.0, 60.5])


@given(st.lists(st.tuples(st.floats(0.01, 0.2), st.integers(0, 1)), min_size=1, max_size=40))
def test_times_go_on_and_steps_within_a_take_stay_as_they_were(steps: list[tuple[float, int]]):
    at, take, frames = 100.0, 0, []
    for step, pause in steps:
        at, take = at + step + 30 * pause, take + pause
        frames.append((at, take))
    found = times_of(*frames)
    for (before, now), (found_before, found_now) in zip(pairwise(frames), pairwise(found), strict=True):
        assert 0 < found_now - found_before <= 0.5
        if now[1] == before[1]:
            assert found_now - found_before == pytest.approx(now[0] - before[0])
