"""The times of a recording that goes on after pauses as if there had been none."""

from __future__ import annotations

from dataclasses import replace

from app.frame import Frame

_STEP_SECONDS = 1 / 30  # from one picture to the next, before two of them have come
_LONGEST_STEP_SECONDS = 0.5


class Takes:
    """Lines up takes (``Frame.take``): each goes on one step after the last picture of the one before.

    The step is that between the last two pictures. Times within a take stay as far apart as they were.
    """

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._step = _STEP_SECONDS
        self._cut = 0.0  # seconds left out so far

    def joined(self, frame: Frame) -> Frame:
        """``frame`` with its time in the recording."""
        last, self._last = self._last, frame
        if last is not None:
            gap = frame.captured_at - last.captured_at
            if frame.take != last.take:
                self._cut += gap - self._step
            elif gap > 0:
                self._step = min(gap, _LONGEST_STEP_SECONDS)
        return replace(frame, captured_at=frame.captured_at - self._cut)
