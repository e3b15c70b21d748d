"""The one protocol behind every sink, and the error that a sink may raise."""

from __future__ import annotations

from typing import Protocol

from app.frame import Frame


class SinkError(Exception):
    """The sink cannot take frames. The message is one sentence for the user: what, why, what to do."""


class Sink(Protocol):
    """Takes finished frames from the display thread, in order."""

    name: str  # for people: "recording to party.mp4"

    def open(self) -> None:
        """Acquire the file or device. Raises ``SinkError``."""
        ...

    def write(self, frame: Frame) -> None:
        """Take one styled frame (``frame.pixels``; ``frame.original`` is the input). Raises ``SinkError``."""
        ...

    def close(self) -> None:
        """Finish and release. Safe to call more than once, and after an error."""
        ...
