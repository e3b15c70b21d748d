"""The last camera frames, small and grey, and the motion from any of them to any later one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.frame import Frame
from app.reprojection.flow import FlowEstimator, Motion, compose, rest, small_grey

KEPT_FRAMES = 48  # a second and a half of a camera; a picture that is older says nothing about now
# A motion known for less of the picture than this is a cut, or nothing to go by.
LEAST_RELIABLE = 0.55


@dataclass(slots=True, eq=False)
class _Sight:
    """One camera frame: which, its small grey copy, and the motion to it from the frame before it."""

    key: tuple[float, int]
    grey: np.ndarray
    step: Motion | None = None  # measured when it is first asked for


class Track:
    """Motion between camera frames. Each is measured once, from one frame to the next, and composed over more.

    Frames are known by their capture time and index. One that was not added before is taken in wherever it belongs.
    Not for use by two threads at once.
    """

    def __init__(self) -> None:
        self._estimator = FlowEstimator()
        self._sights: list[_Sight] = []

    def reset(self) -> None:
        """Forget all frames: another source."""
        self._sights.clear()

    def add(self, frame: Frame) -> bool:
        """Take note of a camera frame with its tensor; False where it is of no use (no tensor, or too small).

        A frame of another size than those before starts anew.
        """
        if self._place(frame) is not None:
            return True
        grey = small_grey(frame.tensor.numpy()) if frame.tensor is not None else None
        if grey is None:
            return False
        if self._sights and self._sights[-1].grey.shape != grey.shape:
            self.reset()
        after = next((i for i, sight in enumerate(self._sights) if sight.key > _key(frame)), len(self._sights))
        self._sights.insert(after, _Sight(_key(frame), grey))
        if after + 1 < len(self._sights):
            self._sights[after + 1].step = None  # it was measured from the frame before this one
        del self._sights[:-KEPT_FRAMES]
        return True

    def between(self, older: Frame, newer: Frame) -> Motion | None:
        """The motion from one frame to a later one; None where there is a cut between them, or it is not known."""
        if not (self.add(older) and self.add(newer)):
            return None
        first, last = self._place(older), self._place(newer)
        if first is None or last is None or first > last:
            return None
        motion: Motion | None = None
        for place in range(first + 1, last + 1):
            step = self._step(place)
            if step.reliable < LEAST_RELIABLE:
                return None
            motion = step if motion is None else compose(motion, step)
        if motion is None:
            return rest(*self._sights[first].grey.shape)
        return motion if motion.reliable >= LEAST_RELIABLE else None

    def _step(self, place: int) -> Motion:
        sight = self._sights[place]
        if sight.step is None:
            sight.step = self._estimator.measure(self._sights[place - 1].grey, sight.grey)
        return sight.step

    def _place(self, frame: Frame) -> int | None:
        for place in range(len(self._sights) - 1, -1, -1):  # what is asked for is mostly new
            if self._sights[place].key == _key(frame):
                return place
        return None


def _key(frame: Frame) -> tuple[float, int]:
    return frame.captured_at, frame.index
