"""What the engine can be told of where its next frames differ from those that it saw last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.changes import in_tensor
from app.messages import Captured

# (left, top, right, bottom) in pixels of the tensor, as the engine takes them.
Corners = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What must be the same for two tensors to be compared, and the index of the frame."""

    way: tuple[object, ...]
    index: int


class ChangeTracker:
    """Follows the frames into the engine: between two of its calls, frames may have been dropped."""

    def __init__(self) -> None:
        self._seen: list[_Seen] = []

    def changed(self, group: Sequence[Captured], frame_buffer: int) -> list[list[Corners] | None] | None:
        """For each place of the next call, where its frame differs from the one there in the call before.

        Args:
            group: the frames of the call; the last one fills the places that are left.
            frame_buffer: how many places there are.

        Returns:
            None for a place of which nothing is known, so that all may differ; None instead of the list where that
            is so for all of them.
        """
        arriving = _padded(group, frame_buffer)
        if len(self._seen) != len(arriving):
            return None
        found = [_between(before, one) for before, one in zip(self._seen, arriving, strict=True)]
        return found if any(places is not None for places in found) else None

    def took(self, group: Sequence[Captured], frame_buffer: int) -> None:
        """The engine took this group."""
        self._seen = [_Seen(_way_of(one), one.frame.index) for one in _padded(group, frame_buffer)]

    def forget(self) -> None:
        """The engine forgot its frames."""
        self._seen = []


def _padded(group: Sequence[Captured], frame_buffer: int) -> list[Captured]:
    return [*group, *[group[-1]] * (frame_buffer - len(group))]


def _between(before: _Seen, captured: Captured) -> list[Corners] | None:
    frame = captured.frame
    if frame.changes is None or frame.tensor is None or before.way != _way_of(captured):
        return None
    rectangles = frame.changes.since(before.index)
    if rectangles is None:
        return None
    high, wide = frame.pixels.shape[:2]
    height, width = frame.tensor.shape[1:]
    mapped = in_tensor(rectangles, (wide, high), (width, height), captured.settings.fit, captured.settings.mirror)
    return [(one.x, one.y, one.right, one.bottom) for one in mapped]


def _way_of(captured: Captured) -> tuple[object, ...]:
    """From which source, and how, the tensor came about."""
    tensor, settings = captured.frame.tensor, captured.settings
    shape = tuple(tensor.shape) if tensor is not None else ()
    return captured.epoch, captured.frame.pixels.shape, shape, settings.fit, settings.mirror
