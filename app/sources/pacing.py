"""Pacing of live sources: when the next frame is due, and a wait that ``close`` can interrupt.

Whoever watches over a source must tell a source that waits for the clock from one that hangs in a driver: the last is
a fault, the first is its work. So each wait for the clock is noted, for the thread that waits.
"""

from __future__ import annotations

import math
import threading
import time
from weakref import WeakKeyDictionary


def next_beat(previous: float, period: float, now: float) -> float:
    """When the next frame is due: one ``period`` after ``previous``, but never in the past.

    A source that was held up starts a new rhythm instead of sending a burst of late frames. All values in seconds.
    """
    return max(previous + period, now)


def wait_until(due: float, closing: threading.Event) -> bool:
    """Wait until ``time.monotonic()`` reaches ``due``; True once it has, False as soon as ``closing`` is set.

    Infinity is for ever.
    """
    remaining = due - time.monotonic()
    if remaining <= 0:
        return not closing.is_set()
    thread = threading.current_thread()
    _waits[thread] = due
    try:
        return not closing.wait(None if math.isinf(due) else remaining)
    finally:
        _waits[thread] = time.monotonic()


def waited_until(thread: threading.Thread) -> float:
    """Up to when ``thread`` waits in ``wait_until``, or has waited the last time; minus infinity where it never has."""
    return _waits.get(thread, -math.inf)


# By the threads that live; a dictionary is safe for one write or read at a time.
_waits: WeakKeyDictionary[threading.Thread, float] = WeakKeyDictionary()


class Beat:
    """The rhythm of a live source. ``stop`` may be called from any thread, the rest from the one that reads.

    Args:
        fps: beats a second, above 0.
    """

    def __init__(self, fps: float) -> None:
        self._period = 1.0 / fps
        self._closing = threading.Event()
        self._due = 0.0

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called since the last ``start``."""
        return self._closing.is_set()

    def start(self) -> None:
        """Begin a rhythm whose first beat is now."""
        self._closing.clear()
        self._due = time.monotonic() - self._period

    def wait(self) -> bool:
        """Wait for the next beat; False as soon as ``stop`` is called."""
        self._due = next_beat(self._due, self._period, time.monotonic())
        return wait_until(self._due, self._closing)

    def stop(self) -> None:
        """End the wait for the next beat, and every one after it."""
        self._closing.set()
