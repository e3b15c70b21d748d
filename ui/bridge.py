"""From the session's threads to Qt's: the newest picture, and what the session says of itself."""

from __future__ import annotations

import threading

from PySide6.QtCore import QObject, Signal

from app.frame import Frame
from app.status import Notice, Status


class Bridge(QObject):
    """Carries pictures and words across. ``put`` and ``tell`` may be called from any thread.

    A window that is slower than the stream misses pictures, but never queues them: ``pictured`` is emitted once, and
    again only after ``take``.
    """

    pictured = Signal()
    told = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._newest: Frame | None = None

    def put(self, frame: Frame) -> None:
        """Offer the newest picture."""
        with self._lock:
            announced = self._newest is not None
            self._newest = frame
        if not announced:
            self.pictured.emit()

    def take(self) -> Frame | None:
        """The newest picture, once."""
        with self._lock:
            newest, self._newest = self._newest, None
            return newest

    def tell(self, what: Status | Notice) -> None:
        """Pass on a status or a notice."""
        self.told.emit(what)
