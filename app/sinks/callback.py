"""Frames handed to a function: for windows, and for tests."""

from __future__ import annotations

from collections.abc import Callable

from app.frame import Frame


class CallbackSink:
    """Calls ``callback`` with every frame, on the display thread; it should return soon.

    Args:
        callback: takes the styled frame.
        name: for people.
    """

    def __init__(self, callback: Callable[[Frame], None], name: str = "window") -> None:
        self.name = name
        self._callback = callback

    def open(self) -> None:
        """Nothing to acquire."""

    def write(self, frame: Frame) -> None:
        """Hand the frame over."""
        self._callback(frame)

    def close(self) -> None:
        """Nothing to release."""
