"""No source at all, for the time of a pause: nothing is open, and nothing comes."""

from __future__ import annotations

import math
import threading

from app.frame import Frame
from app.sources.pacing import wait_until


class IdleSource:
    """Gives no frame until it is closed, so that the camera or screen before it is let go."""

    def __init__(self) -> None:
        self.name = "pause"
        self.live = True
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._closing = threading.Event()

    def open(self) -> None:
        """Nothing to acquire."""
        self._closing.clear()

    def read(self) -> Frame | None:
        """Wait for ``close``; then None."""
        wait_until(math.inf, self._closing)
        return None

    def close(self) -> None:
        """End the wait."""
        self._closing.set()
