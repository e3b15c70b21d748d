"""That sessions leave nothing behind, and that what looks for it would find it."""

from __future__ import annotations

import random

import pytest

from tests.app.cycles import Cycles, cycles
from tests.app.soak import MOST_MB_PER_HOUR, Report
from tests.growth import slope


def test_hundreds_of_starts_and_stops_leave_nothing():
    """``python -m tests.app.cycles`` makes ten thousand."""
    found = cycles(200)
    assert found.problems == []
    assert found.slowest < 10  # a stop that waits for a thread that hangs takes longer


def test_a_session_that_left_something_would_be_found():
    assert any("memory grew" in problem for problem in cycles(90, leak=512 * 1024).problems)
    left = Cycles(threads=(1, 2), files=(6, 7))
    assert left.problems == ["1 threads became 2", "6 open files became 7"]


def minutes(count: float, mb_per_hour: float, noise: float = 0.3, warm_up_mb: float = 90.0) -> Report:
    """A run whose memory first rises to what it needs and then grows at this rate, with noise."""
    choose = random.Random(1)
    memory = [
        (float(at), round(500 + min(warm_up_mb, at * 4) + mb_per_hour * at / 3600 + choose.gauss(0, noise), 2))
        for at in range(round(60 * count))
    ]
    return Report(memory_mb=memory)


@pytest.mark.parametrize("count", [2, 10])
@pytest.mark.parametrize("mb_per_hour", [-40, 0, 28])
def test_a_run_that_is_flat_passes(count: int, mb_per_hour: float):
    report = minutes(count, mb_per_hour)
    report.judge(MOST_MB_PER_HOUR)
    assert report.problems == []


@pytest.mark.parametrize(("count", "mb_per_hour"), [(2, 400), (10, 33), (10, 1000), (60, 33)])
def test_a_run_that_leaks_fails(count: int, mb_per_hour: float):
    report = minutes(count, mb_per_hour)
    found = report.judge(MOST_MB_PER_HOUR)
    assert found.mb_per_hour == pytest.approx(mb_per_hour, abs=3 * found.error)
    (problem,) = report.problems
    assert "memory grew by +" in problem


def test_a_swing_of_a_short_run_is_no_leak_and_of_a_long_one_no_excuse():
    for count, problems in ((2, 0), (10, 1)):
        report = minutes(count, 0)
        report.memory_mb = [(at, mb + (1.5 if at > 60 * count / 2 else 0)) for at, mb in report.memory_mb]
        report.judge(10.0)
        assert len(report.problems) == problems


def test_too_short_a_run_gives_no_verdict_at_all():
    with pytest.raises(ValueError, match="measure for longer"):
        slope([(float(at), 100.0) for at in range(10)])
