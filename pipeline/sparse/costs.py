"""What a network costs on windows, measured while it runs: by this the faster way is chosen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from pipeline.sparse.rectangles import Shape, Size
from pipeline.sparse.stopwatch import HostStopwatch, Stopwatch

# Windows must be expected to take less than this share of the time of the whole: what is done around their networks is
# not measured.
WORTH = 0.8
# Windows that were measured as too slow, but would be fast enough by their area, are tried again after so many
# refusals: the measurement may have been taken while the machine did something else. Each time they are found too slow
# once more, the next try is twice as far off, up to the limit: where windows never pay, trying them must not cost much.
RETRY_AFTER, RETRY_AT_MOST = 8, 512
# The lower quartile of so many last times counts: whatever else the machine did came on top.
_REMEMBERED_TIMES = 9
# Measurements that wait for the device; older ones are dropped.
_MOST_PENDING = 64


class Costs:
    """Seconds that one network takes on the whole picture and on windows.

    A window is expected to take the share of the whole that it has of the area, and ``overhead`` more, times a factor
    that is learned. There is one factor for all shapes: what moves has a window of another shape in each frame, and a
    factor of a shape's own would be known too late.

    Args:
        overhead: what a call costs beside its area, as a share of the time of the whole.
        stopwatch: starts a measurement of the device that the network runs on.
    """

    def __init__(self, overhead: float, stopwatch: Callable[[], Stopwatch] = HostStopwatch) -> None:
        self._overhead = overhead
        self._stopwatch = stopwatch
        self._pending: deque[tuple[Stopwatch, Shape, Size, float]] = deque(maxlen=_MOST_PENDING)
        self._whole: dict[Size, deque[float]] = {}
        self._factors: deque[float] = deque(maxlen=_REMEMBERED_TIMES)
        self._refused, self._retry_after = 0, RETRY_AFTER

    def start(self) -> Stopwatch:
        """Start to measure a call; without ``stop``, nothing is learned from it."""
        self._collect()
        return self._stopwatch()

    def stop(self, started: Stopwatch, part: Shape, whole: Size, share: float = 1.0) -> None:
        """The call is over. The device may still be at work: the time is noted by a later call to this object.

        Args:
            part: what the call was of: ``whole``, or the shape of a window or of several at once.
            share: of the measured time that ``part`` alone takes, where the call did more.
        """
        started.stop()
        self._pending.append((started, part, whole, share))
        self._collect()

    def note(self, part: Shape, whole: Size, seconds: float) -> None:
        """Learn from one call on ``part`` of a picture of the size ``whole``, or on all of it."""
        if part == whole:
            self._whole.setdefault(whole, deque(maxlen=_REMEMBERED_TIMES)).append(seconds)
        elif whole in self._whole:
            self._factors.append(seconds / _usual(self._whole[whole]) / self._by_area(part, whole))

    def share(self, part: Shape, whole: Size) -> float:
        """The time that ``part``, one window or several in one call, is expected to take; one whole picture's is 1."""
        if part == whole:
            return 1.0
        return self._by_area(part, whole) * (_usual(self._factors) if self._factors else 1.0)

    def worth(self, parts: Iterable[Shape], whole: Size, rows: int = 1) -> bool:
        """Whether calls on all of ``parts`` are faster than one on ``rows`` whole pictures; no call always is."""
        self._collect()
        parts, most = list(parts), WORTH * rows
        if sum(self.share(part, whole) for part in parts) < most:
            if parts and self._factors:
                self._refused, self._retry_after = 0, RETRY_AFTER
            return True
        if sum(1.0 if part == whole else self._by_area(part, whole) for part in parts) < most:
            self._refused += 1
            if self._refused >= self._retry_after:
                self._refused, self._retry_after = 0, min(2 * self._retry_after, RETRY_AT_MOST)
                self._factors.clear()
        return False

    def _collect(self) -> None:
        """Note the times of the calls that the device has finished."""
        while self._pending:
            watch, part, whole, share = self._pending[0]
            seconds = watch.seconds
            if seconds is None:
                return
            self._pending.popleft()
            self.note(part, whole, share * seconds)

    def _by_area(self, part: Shape, whole: Size) -> float:
        return self._overhead + math.prod(part) / math.prod(whole)


def _usual(times: Iterable[float]) -> float:
    """The lower quartile."""
    ordered = sorted(times)
    return ordered[len(ordered) // 4]
