"""How fast, how late, how much was left out: counted by the threads, read by anyone as one immutable value."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

WINDOW_SECONDS = 3.0
# Enough for a percentile that means something, little enough to sort between two pictures of the window.
KEPT_LATENCIES = 10_000
STAGES = ("encode", "unet", "decode")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the counters at one moment.

    Attributes:
        frames_in: frames that the source delivered.
        frames_out: pictures of the model that reached the sinks.
        frames_reprojected: pictures shown besides, carried along the motion from an earlier one; in no other count.
        frames_skipped: frames that the similarity filter kept from the model, as they are like one before. In a file,
            and in a live scene that stands still, they are shown with its picture, and among ``frames_out``.
        frames_dropped: frames that had to make room for newer ones.
        seconds: from the first frame's capture to the last frame's delivery.
        fps: ``frames_out`` a second over the whole time.
        fps_in, fps_out, fps_reprojected: the same kinds of frames a second over the last ``WINDOW_SECONDS``.
        latency_p50_ms, latency_p95_ms: glass to glass, waiting included, of the last ``KEPT_LATENCIES`` frames; 0
            before the first.
        motion_p50_ms, motion_p95_ms: the latency of what moves: of everything shown, reprojected or not, since the
            capture of the camera frame whose moment it shows. The same as ``latency`` without reprojection.
        recent_latency_ms, recent_latency_p95_ms: median and 95th percentile over the last ``WINDOW_SECONDS``; 0 if
            nothing was shown in them.
        stages_ms: median milliseconds of each engine stage, by name.
        acceleration: what runs the networks by now, and what is still being built; empty before the first picture.
        similarity: cosine similarity (0..1) of the last frame that the similarity filter looked at; 0 without it.
        width, height: of the last picture in pixels; 0 before the first.
    """

    frames_in: int = 0
    frames_out: int = 0
    frames_reprojected: int = 0
    frames_skipped: int = 0
    frames_dropped: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    fps_in: float = 0.0
    fps_out: float = 0.0
    fps_reprojected: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    motion_p50_ms: float = 0.0
    motion_p95_ms: float = 0.0
    recent_latency_ms: float = 0.0
    recent_latency_p95_ms: float = 0.0
    stages_ms: Mapping[str, float] = field(default_factory=lambda: MappingProxyType(dict.fromkeys(STAGES, 0.0)))
    acceleration: str = ""
    similarity: float = 0.0
    width: int = 0
    height: int = 0


class Metrics:
    """Counters of one session. Every method may be called from any thread.

    Args:
        clock: seconds, monotonic; the one that ``Frame.captured_at`` is read from.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in = self._out = self._reprojected = self._skipped = self._dropped = 0
        self._first: float | None = None
        self._last = 0.0
        self._arrivals: deque[float] = deque()
        self._shown: deque[tuple[float, float]] = deque(maxlen=KEPT_LATENCIES)  # (when, latency), both in seconds
        self._carried: deque[float] = deque(maxlen=KEPT_LATENCIES)  # when a reprojected picture was shown, in seconds
        self._motion: deque[float] = deque(maxlen=KEPT_LATENCIES)  # latencies of all that was shown, in seconds
        self._stages: Mapping[str, float] = Snapshot().stages_ms
        self._acceleration = ""
        self._similarity = 0.0
        self._size = (0, 0)

    def captured(self, captured_at: float) -> None:
        """A source delivered a frame at ``captured_at``."""
        with self._lock:
            self._in += 1
            if self._first is None:
                self._first = captured_at
            self._arrivals.append(captured_at)
            self._forget_arrivals()

    def dropped(self, frames: int = 1) -> None:
        """So many frames made room for newer ones."""
        with self._lock:
            self._dropped += frames

    def skipped(self, frames: int = 1) -> None:
        """The similarity filter kept so many frames from the model."""
        with self._lock:
            self._skipped += frames

    def compared(self, similarity: float) -> None:
        """The similarity filter found this similarity (0..1)."""
        with self._lock:
            self._similarity = similarity

    def shown(self, captured_at: float, width: int, height: int, moment: float | None = None) -> None:
        """The frame captured at ``captured_at`` has just reached the sinks, at this size in pixels.

        ``moment`` is when the camera frame was captured that the picture was carried to, if it was.
        """
        with self._lock:
            now = self._clock()
            self._out += 1
            self._last = now
            self._shown.append((now, now - captured_at))
            self._motion.append(now - (captured_at if moment is None else moment))
            self._size = (width, height)

    def reprojected(self, moment: float) -> None:
        """A picture carried to the camera frame captured at ``moment`` has just reached the sinks."""
        with self._lock:
            now = self._clock()
            self._reprojected += 1
            self._carried.append(now)
            self._motion.append(now - moment)

    def stages(self, milliseconds: Mapping[str, float]) -> None:
        """The engine's own stage times, median milliseconds by stage name."""
        with self._lock:
            self._stages = MappingProxyType(dict.fromkeys(STAGES, 0.0) | dict(milliseconds))

    def accelerated(self, progress: str) -> None:
        """What runs the engine's networks by now, in words."""
        with self._lock:
            self._acceleration = progress

    def snapshot(self) -> Snapshot:
        """All counters as they stand now."""
        with self._lock:
            now = self._clock()
            self._forget_arrivals()
            latencies = sorted(latency for _, latency in self._shown)
            motion = sorted(self._motion)
            carried = sum(when > now - WINDOW_SECONDS for when in self._carried)
            recent = sorted(latency for when, latency in self._shown if when > now - WINDOW_SECONDS)
            seconds = max(0.0, self._last - self._first) if self._out and self._first is not None else 0.0
            return Snapshot(
                frames_in=self._in,
                frames_out=self._out,
                frames_reprojected=self._reprojected,
                frames_skipped=self._skipped,
                frames_dropped=self._dropped,
                seconds=seconds,
                fps=self._out / seconds if seconds else 0.0,
                fps_in=self._rate(len(self._arrivals), now),
                fps_out=self._rate(len(recent), now),
                fps_reprojected=self._rate(carried, now),
                latency_p50_ms=1000 * percentile(latencies, 50),
                latency_p95_ms=1000 * percentile(latencies, 95),
                motion_p50_ms=1000 * percentile(motion, 50),
                motion_p95_ms=1000 * percentile(motion, 95),
                recent_latency_ms=1000 * percentile(recent, 50),
                recent_latency_p95_ms=1000 * percentile(recent, 95),
                stages_ms=self._stages,
                acceleration=self._acceleration,
                similarity=self._similarity,
                width=self._size[0],
                height=self._size[1],
            )

    def _forget_arrivals(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._arrivals and self._arrivals[0] <= oldest:
            self._arrivals.popleft()

    def _rate(self, frames: int, now: float) -> float:
        # A session younger than the window is measured over its own age, or it would start out looking slow.
        age = now - self._first if self._first is not None else 0.0
        return frames / min(WINDOW_SECONDS, age) if age > 0 else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile (0..100) of values in ascending order; 0 of none."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]
