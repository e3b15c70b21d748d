"""What comes and goes beside the program (cameras, windows, screens), for whoever wants to ask often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

LOOK_SECONDS = 2.0
T = TypeVar("T")


class Listing(Generic[T]):
    """The last answer to a question that may take a second, or hang: to ask never waits.

    Args:
        look: gives the answer of now, on a thread of its own. It must not raise.
        seconds: how old an answer may be before another look is taken.
        clock: seconds, monotonic.
    """

    def __init__(
        self, look: Callable[[], T], *, seconds: float = LOOK_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: T | None = None
        self._looked: float | None = None
        self._looking: threading.Thread | None = None

    @property
    def seen(self) -> T | None:
        """The last answer; None before the first is there. A look begins where it has grown old."""
        with self._lock:
            stale = self._looked is None or self._clock() - self._looked >= self._seconds
            if stale and (self._looking is None or not self._looking.is_alive()):
                self._looked = self._clock()
                self._looking = threading.Thread(target=self._refresh, name="vitrail-listing", daemon=True)
                self._looking.start()
            return self._seen

    def wait(self, timeout: float | None = None) -> T | None:
        """The answer once the look that is under way, if any, is done."""
        self.seen  # noqa: B018 - begins a look
        looking = self._looking
        if looking is not None:
            looking.join(timeout)
        return self._seen

    def _refresh(self) -> None:
        self._seen = self._look()
