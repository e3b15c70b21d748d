"""From the session's threads to Qt's: the newest picture, and what the session says of itself."""

from __future__ import annotations

import threading

from PySide6.QtCore import QObject, Signal

from app.frame import Frame
from app.status import Notice, Status
from ui.pixels import Presenter


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
        self._presenters: tuple[Presenter, ...] = ()
        self._previewing: tuple[Presenter, ...] = ()

    def attach(self, presenter: Presenter, *, previews: bool = False) -> None:
        """Have every picture made ready for this view, too.

        Args:
            previews: also what the source sees before it is styled. Not for a view that others see.
        """
        with self._lock:
            self._presenters = (*self._presenters, presenter)
            if previews:
                self._previewing = (*self._previewing, presenter)

    def detach(self, presenter: Presenter) -> None:
        """The view is gone."""
        with self._lock:
            self._presenters = tuple(other for other in self._presenters if other is not presenter)
            self._previewing = tuple(other for other in self._previewing if other is not presenter)

    def put(self, frame: Frame) -> None:
        """Offer the newest picture."""
        with self._lock:
            presenters = self._presenters
        self._offer(frame, presenters)

    def preview(self, frame: Frame) -> None:
        """Offer a frame of the source, of which there is no picture yet."""
        with self._lock:
            presenters = self._previewing
        self._offer(frame, presenters)

    def _offer(self, frame: Frame, presenters: tuple[Presenter, ...]) -> None:
        for presenter in presenters:
            presenter.offer(frame)
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
