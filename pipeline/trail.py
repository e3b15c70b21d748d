"""What travels beside the slots of a stream batch, so that each picture leaves with what came in with its frame."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Trail(Generic[Value]):
    """One value for each of the positions 1 to T; they move on as the frames there do.

    Attributes:
        shown: the value of the frame whose picture finished last; None before the first.
    """

    def __init__(self) -> None:
        self.shown: Value | None = None
        self._places: deque[Value | None] = deque()

    def prime(self, value: Value | None, steps: int) -> None:
        """As ``StreamBatch.prime``: a frame with this value is at all positions."""
        self._places = deque([value] * steps, steps)
        self.shown = value

    def tick(self, value: Value | None) -> None:
        """As ``StreamBatch.tick``: a frame with this value comes in, and all others move one position on."""
        self._places.appendleft(value)
        self.shown = self._places[-1]

    def resize(self, steps: int) -> None:
        """As ``StreamBatch.change``: there are T = ``steps`` positions now; new ones hold what finished last."""
        if self._places:
            last = len(self._places) - 1
            self._places = deque([self._places[min(place, last)] for place in range(steps)], steps)

    def clear(self) -> None:
        """No frame is in flight."""
        self._places.clear()
        self.shown = None
