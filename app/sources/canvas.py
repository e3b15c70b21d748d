"""A drawing as a live source: each frame is the drawing as it is, with exactly what has changed in it."""

from __future__ import annotations

import threading
import time

from app.changes import Changes
from app.drawing import Drawing
from app.frame import Frame
from app.sources.pacing import next_beat, wait_until


class CanvasSource:
    """Pictures of a ``Drawing``, ``fps`` times a second; whoever paints on it never waits for them.

    Args:
        drawing: may be painted on, from any thread, before, while and after it is a source.
        fps: pictures a second, above 0.

    Attributes:
        drawing: as given.
    """

    def __init__(self, drawing: Drawing | None = None, *, fps: float = 30.0) -> None:
        self.drawing = drawing if drawing is not None else Drawing()
        self.name = "canvas"
        self.live = True
        self.fps: float | None = fps
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._period = 1.0 / fps
        self._closing = threading.Event()
        self._changes: Changes | None = None
        self._revision: int | None = None
        self._due = 0.0

    def open(self) -> None:
        """Start a new rhythm; indices go on counting."""
        self._closing.clear()
        self._due = time.monotonic() - self._period

    def read(self) -> Frame | None:
        """The drawing at the next beat, changed or not; None after ``close``."""
        self._due = next_beat(self._due, self._period, time.monotonic())
        if not wait_until(self._due, self._closing):
            return None
        look = self.drawing.look(self._revision)
        self._revision = look.revision
        self._changes = Changes(0) if self._changes is None else self._changes.followed_by(look.changed)
        return Frame(self._changes.index, time.monotonic(), look.pixels, changes=self._changes)

    def close(self) -> None:
        """End the stream; a waiting ``read`` returns None at once."""
        self._closing.set()
