"""A drawing as a live source: each frame is the drawing as it is, with exactly what has changed in it."""

from __future__ import annotations

import time

from app.changes import Changes
from app.drawing import Drawing
from app.frame import Frame
from app.sources.pacing import Beat


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
        self._beat = Beat(fps)
        self._changes: Changes | None = None
        self._revision: int | None = None

    def open(self) -> None:
        """Start a new rhythm; indices go on counting."""
        self._beat.start()

    def read(self) -> Frame | None:
        """The drawing at the next beat, changed or not; None after ``close``."""
        if not self._beat.wait():
            return None
        look = self.drawing.look(self._revision)
        self._revision = look.revision
        self._changes = Changes(0) if self._changes is None else self._changes.followed_by(look.changed)
        return Frame(self._changes.index, time.monotonic(), look.pixels, changes=self._changes)

    def close(self) -> None:
        """End the stream; a waiting ``read`` returns None at once."""
        self._beat.stop()
