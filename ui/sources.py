"""What the window watches: one source by its name, which can be changed, paused and wound to another place."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QObject, Signal

from app.drawing import Drawing
from app.session import Session
from app.sources import Source, SourceError, open_source
from app.sources.camera import CameraSource
from app.sources.canvas import CanvasSource
from app.sources.idle import IdleSource
from app.sources.screen import ScreenSource
from app.sources.video import VideoSource
from app.sources.window import WindowSource
from ui.choice import CANVAS, Choice

# The first that fits counts: a window is read from the screen.
_WATCHED = ((CameraSource, "Camera on"), (WindowSource, "Window shared"), (ScreenSource, "Screen shared"))


def watched(sources: Iterable[Source]) -> str:
    """What of the user these sources let the program see, for the light; empty where that is nothing."""
    seen = [next((words for kind, words in _WATCHED if isinstance(one, kind)), "") for one in sources]
    return "  ·  ".join(words for words in dict.fromkeys(seen) if words)


class SourceSwitch(QObject):
    """Changes a session's source.

    Args:
        session: whose source.
        choice: what it runs on already.
        source: the object behind ``choice``, where the caller has it.
        drawing: what a canvas shows, where ``source`` has no drawing of its own; an empty one by default.

    Signals:
        changed: another source, or a pause, or its end.
        failed: one sentence on why a source could not be taken; the old one goes on.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(
        self, session: Session, choice: Choice, source: Source | None = None, drawing: Drawing | None = None
    ) -> None:
        super().__init__()
        self._session = session
        self._source: Source = source if source is not None else IdleSource()
        self.choice = choice
        self.paused = False
        self._left_at: Source = self._source  # by the last pause
        self.drawing = source.drawing if isinstance(source, CanvasSource) else drawing or Drawing()

    @property
    def source(self) -> Source:
        """The source itself: to look at, not to read from."""
        return self._source

    @property
    def fps(self) -> float | None:
        """The rate of the source, where it says."""
        return self._source.fps

    @property
    def video(self) -> VideoSource | None:
        """The clip that plays; None where the source is none that can be wound."""
        return self._source if isinstance(self._source, VideoSource) and not self.paused else None

    def choose(self, choice: Choice) -> bool:
        """Go on with another source, at once. False where there is none of that name, which ``failed`` tells."""
        try:
            source = self._made(choice)
        except SourceError as error:
            self.failed.emit(str(error))
            return False
        self.choice = choice
        self.paused = False
        self._use(source)
        return True

    def pause(self, paused: bool) -> None:
        """Let go of the source, or take it up again: a clip where it was, and with or without its loop as before."""
        if paused == self.paused:
            return
        if paused:
            self.paused = True
            self._left_at = self._source
            self._use(IdleSource(), cut=True)
            return
        try:
            source = self._made(self.choice)
        except SourceError as error:
            self.failed.emit(str(error))
            return
        if isinstance(source, VideoSource) and isinstance(self._left_at, VideoSource):
            source.seek(self._left_at.position)
            source.loop = self._left_at.loop
        self.paused = False
        self._use(source)

    def _use(self, source: Source, *, cut: bool = False) -> None:
        self._source = source
        self._session.set_source(source, cut=cut)
        self.changed.emit()

    def _made(self, choice: Choice) -> Source:
        if choice.kind == CANVAS:
            return CanvasSource(self.drawing)
        return open_source(choice.spec, live=True)
