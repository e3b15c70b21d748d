"""The one protocol behind every source, and the errors that a source may raise."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from app.frame import Frame


class SourceError(Exception):
    """The source cannot be opened or read. The message is one sentence for the user: what, why, what to do."""


class SourceStalled(SourceError):
    """No frame came in time; the source may recover, so the capture thread retries it with back-off."""


class Source(Protocol):
    """A stream of frames. Opened and read by one thread, which may hang there without harm (``app/feed.py``).

    ``close`` may be called from any thread, more than once.
    """

    name: str  # for people: "camera 0 (FaceTime HD)", "holiday.mp4"
    live: bool  # True: newest wins, frames may be dropped. False: every frame counts (files)
    fps: float | None  # frames a second where known
    frame_count: int | None  # how many frames there will be, where known; an estimate
    lost: str | None  # at the end: a sentence on what could not be read, if anything

    def open(self) -> None:
        """Acquire the device or file. Raises ``SourceError``."""
        ...

    def read(self) -> Frame | None:
        """The next frame (blocks until there is one), or None at the end. Raises ``SourceError``."""
        ...

    def close(self) -> None:
        """Release everything. A blocked ``read`` returns None or raises ``SourceError`` soon after."""
        ...


@runtime_checkable
class Diagnosed(Protocol):
    """A source that can tell why it is silent."""

    def why_silent(self) -> str:
        """One sentence on why nothing comes, asked from another thread while ``open`` or ``read`` hangs."""
        ...
