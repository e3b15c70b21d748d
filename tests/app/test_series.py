"""The last minute in numbers."""

from __future__ import annotations

import itertools

import pytest

from app.metrics import Snapshot
from app.series import Series, memory_mb


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_day_of_snapshots_keeps_a_minute():
    clock = Clock()
    series = Series(clock=clock, memory=lambda: (300.0, 0.0))
    for second in range(5000):
        clock.now = 100 + second / 10
        series.add(Snapshot(frames_dropped=second, frames_skipped=2 * second, fps_in=30, fps_out=second))
    points = series.points
    assert len(points) == pytest.approx(121, abs=1)
    assert points[-1].at - points[0].at == pytest.approx(60, abs=0.6)
    assert all(later.at - before.at == pytest.approx(0.5) for before, later in itertools.pairwise(points))
    assert all(point.drops == pytest.approx(10) and point.skips == pytest.approx(20) for point in points)
    assert points[-1].fps_out > points[0].fps_out


def test_a_new_session_starts_at_zero_without_negative_drops():
    clock = Clock()
    series = Series(clock=clock, memory=lambda: (1.0, 2.0))
    series.add(Snapshot(frames_dropped=500))
    clock.now += 1
    series.add(Snapshot(frames_dropped=3, recent_latency_ms=40, recent_latency_p95_ms=90))
    first, second = series.points
    assert (first.drops, second.drops) == (0, 0)
    assert (second.latency_p50_ms, second.latency_p95_ms) == (40, 90)
    assert (second.memory_mb, second.device_memory_mb) == (1, 2)


def test_the_memory_of_this_process_is_real():
    main, device = memory_mb()
    assert 20 < main < 100_000
    assert device >= 0
