"""Counters and percentiles against a clock that the test moves."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest

from app.engine import ModelFacts
from app.metrics import WINDOW_SECONDS, Metrics, percentile
from app.report import report
from app.settings import Settings
from pipeline.config import StreamConfig


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_happened() -> None:
    snapshot = Metrics().snapshot()
    assert (snapshot.frames_in, snapshot.frames_out, snapshot.fps, snapshot.seconds) == (0, 0, 0.0, 0.0)
    assert dict(snapshot.stages_ms) == {"encode": 0.0, "unet": 0.0, "decode": 0.0}


def test_rates_and_latency() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    for _ in range(20):  # a frame every 100 ms, shown 50 ms later
        metrics.captured(clock.now)
        clock.now += 0.05
        metrics.shown(clock.now - 0.05, 320, 240)
        clock.now += 0.05
    snapshot = metrics.snapshot()
    assert snapshot.frames_in == snapshot.frames_out == 20
    assert snapshot.fps_in == pytest.approx(10)
    assert snapshot.fps_out == pytest.approx(10)
    assert snapshot.seconds == pytest.approx(1.95)
    assert snapshot.fps == pytest.approx(20 / 1.95)
    assert snapshot.latency_p50_ms == pytest.approx(50)
    assert (snapshot.width, snapshot.height) == (320, 240)


def test_the_window_forgets_but_the_whole_does_not() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    metrics.captured(clock.now)
    metrics.shown(clock.now - 0.2, 8, 8)
    clock.now += WINDOW_SECONDS + 1
    snapshot = metrics.snapshot()
    assert (snapshot.fps_in, snapshot.fps_out, snapshot.recent_latency_ms) == (0.0, 0.0, 0.0)
    assert snapshot.latency_p95_ms == pytest.approx(200)
    assert snapshot.frames_out == 1


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    before = metrics.snapshot()
    metrics.dropped(3)
    metrics.skipped(2)
    metrics.stages({"unet": 4.0})
    after = metrics.snapshot()
    assert (before.frames_dropped, before.frames_skipped, before.stages_ms["unet"]) == (0, 0, 0.0)
    assert (after.frames_dropped, after.frames_skipped, after.stages_ms["unet"]) == (3, 2, 4.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        after.frames_in = 1  # pyright: ignore[reportAttributeAccessIssue]


class Slow(int):
    """A number that lets other threads in between the two halves of ``+=``: reading the sum, and writing it."""

    def __radd__(self, before: int) -> int:
        time.sleep(0.001)
        return int(before) + int(self)


@pytest.mark.parametrize("count", [Metrics.dropped, Metrics.skipped])
def test_threads_may_count_together(count: Callable[[Metrics, int], None]) -> None:
    metrics = Metrics()
    threads = [threading.Thread(target=lambda: [count(metrics, Slow(1)) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = metrics.snapshot()
    assert counts.frames_dropped + counts.frames_skipped == 40


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (10, 1.0), (50, 5.0), (51, 6.0), (95, 10.0), (100, 10.0)])
def test_percentile_is_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 11)], percent) == expected
    assert percentile([], percent) == 0.0


def test_report_has_exactly_the_promised_keys() -> None:
    facts = ModelFacts("mini", "cpu", "float32", "eager", 256)
    settings = Settings(stream=StreamConfig(steps=2, solver="ddim", guidance="full"))
    found = report(Metrics().snapshot(), settings, facts)
    assert set(found) == {
        *(
            "frames_in",
            "frames_out",
            "frames_skipped",
            "frames_dropped",
            "frames_reprojected",
            "seconds",
            "fps",
            "latency_ms",
            "motion_ms",
            "stages_ms",
        ),
        *("model", "device", "dtype", "acceleration", "width", "height", "steps", "solver", "guidance"),
    }
    assert set(found["latency_ms"]) == {"p50", "p95"}
    assert set(found["stages_ms"]) == {"encode", "unet", "decode"}
    assert (found["steps"], found["solver"], found["guidance"], found["model"]) == (2, "ddim", "full", "mini")
