"""The last minute of a session's numbers, for small graphs: bounded, however long the session."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from app.metrics import Snapshot
from app.tensors import device_memory_mb

KEPT_SECONDS = 60.0
STEP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """The numbers at one moment.

    Attributes:
        at: seconds, by the series' clock.
        fps_in, fps_out: frames a second.
        latency_p50_ms, latency_p95_ms: glass to glass, of the frames shown lately.
        drops, skips: frames a second since the point before.
        stages_ms: milliseconds of each engine stage, by name.
        memory_mb: what the process holds in main memory.
        device_memory_mb: what it holds on the graphics card; 0 where there is none.
    """

    at: float
    fps_in: float
    fps_out: float
    latency_p50_ms: float
    latency_p95_ms: float
    drops: float
    skips: float
    stages_ms: Mapping[str, float]
    memory_mb: float
    device_memory_mb: float


class Series:
    """Takes a snapshot whenever it is given one, and keeps those of the last ``seconds``.

    Args:
        seconds: how far it looks back.
        step: points closer together than this replace each other; bounds the memory.
        clock: seconds, monotonic.
        memory: megabytes of main memory and of the device's, now.
    """

    def __init__(
        self,
        *,
        seconds: float = KEPT_SECONDS,
        step: float = STEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], tuple[float, float]] | None = None,
    ) -> None:
        self._seconds, self._step = seconds, step
        self._clock = clock
        self._memory = memory if memory is not None else memory_mb
        self._points: deque[Point] = deque()
        self._last: tuple[float, int, int] | None = None  # when, drops and skips by then

    @property
    def points(self) -> tuple[Point, ...]:
        """Oldest first, none older than ``seconds``."""
        return tuple(self._points)

    def add(self, snapshot: Snapshot) -> None:
        """Take the numbers of now; nothing where the last ones are not ``step`` seconds old."""
        now = self._clock()
        if self._last is not None and now - self._last[0] < self._step:
            return
        when, drops, skips = self._last or (now, snapshot.frames_dropped, snapshot.frames_skipped)
        passed = now - when
        main, device = self._memory()
        self._points.append(
            Point(
                at=now,
                fps_in=snapshot.fps_in,
                fps_out=snapshot.fps_out,
                latency_p50_ms=snapshot.recent_latency_ms,
                latency_p95_ms=snapshot.recent_latency_p95_ms,
                # A new session counts from zero again, which is no negative number of drops.
                drops=max(0, snapshot.frames_dropped - drops) / passed if passed else 0.0,
                skips=max(0, snapshot.frames_skipped - skips) / passed if passed else 0.0,
                stages_ms=snapshot.stages_ms,
                memory_mb=main,
                device_memory_mb=device,
            )
        )
        self._last = (now, snapshot.frames_dropped, snapshot.frames_skipped)
        while self._points[0].at < now - self._seconds:
            self._points.popleft()


def memory_mb() -> tuple[float, float]:
    """Megabytes (2**20) that this process holds in main memory, and on the graphics card."""
    return psutil.Process().memory_info().rss / 2**20, device_memory_mb()
