"""Letting go of a device that another thread may be at, without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class InUse:
    """Guards what one thread uses and any thread may ask to let go of.

    A driver that is at work must not have its device pulled away, and may be at work for ever. So ``end`` never waits:
    what is in use is let go of by the thread that uses it, as soon as it is done.

    ::

        with self._in_use:          # the thread that reads
            self._device.read()
        self._in_use.end()          # any thread, at any time

    Args:
        let_go: releases it, and may be called when there is nothing to release; never while it is in use.
    """

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether ``end`` was called since the last ``begin``."""
        return self._ended.is_set()

    def begin(self) -> None:
        """It may be used, from now on."""
        self._ended.clear()

    def end(self) -> None:
        """Let go of it: now, or as soon as it is not in use any more."""
        self._ended.set()
        self._let_go_if_ended()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._let_go_if_ended()  # ``end`` may have come while it was in use

    def _let_go_if_ended(self) -> None:
        if self._ended.is_set() and self._lock.acquire(blocking=False):  # else whoever has the lock comes here after it
            try:
                self._let_go()
            finally:
                self._lock.release()
