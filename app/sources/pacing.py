"""Pacing of live sources: when the next frame is due, and a wait that ``close`` can interrupt."""

from __future__ import annotations

import threading
import time


def next_beat(previous: float, period: float, now: float) -> float:
    """When the next frame is due: one ``period`` after ``previous``, but never in the past.

    A source that was held up starts a new rhythm instead of sending a burst of late frames. All values in seconds.
    """
    return max(previous + period, now)


def wait_until(due: float, closing: threading.Event) -> bool:
    """Wait until ``time.monotonic()`` reaches ``due``; True once it has, False as soon as ``closing`` is set."""
    remaining = due - time.monotonic()
    if remaining > 0:
        return not closing.wait(remaining)
    return not closing.is_set()
