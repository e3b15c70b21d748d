"""Reprojection: what a styled picture of a moment ago looks like now.

A diffusion model may take several camera frames' time for one picture. Headsets bridge late frames by moving the last
one as the head has moved ("asynchronous reprojection"); here it is moved as the camera's pictures have moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.frame import Frame
from app.reprojection.flow import Motion, compose
from app.reprojection.track import LEAST_RELIABLE, Track
from app.reprojection.warp import carry

# For `auto`: how many camera frames a picture may be behind before the camera is not kept up with. At 1 the model is
# still at the frame before, and will be done with it at any moment.
_BEHIND = 2


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Pixels to be shown, and the camera frame whose moment they show.

    Attributes:
        pixels: (H, W, 3) uint8, or (H, W, 4) with the opacity.
        frame: the camera frame that they were made from, or carried to.
    """

    pixels: np.ndarray
    frame: Frame


class Reprojector:
    """Carries the newest styled picture from the camera frame that it was made from to the newest there is.

    Not for use by two threads at once.

    Args:
        track: measures motion; shared with whoever else on this thread needs it.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._anchor: Picture | None = None  # the newest styled picture, as it came
        self._newest: Frame | None = None  # the newest camera frame seen
        self._so_far: tuple[Frame, Motion] | None = None  # from the anchor to this frame

    def reset(self) -> None:
        """Forget everything: another source."""
        self._track.reset()
        self._anchor = self._newest = self._so_far = None

    def seen(self, frame: Frame, mode: str, overtaken: Callable[[], bool] = lambda: False) -> Picture | None:
        """A camera frame has just been captured; what to show for it, or None to leave on screen what is there.

        Args:
            frame: with its tensor.
            mode: ``off``, ``auto`` (where the model does not keep up) or ``on``.
            overtaken: asked before the costly parts; True means that a styled picture has come in, which goes first.
        """
        if mode == "off" or not self._track.add(frame):
            return None
        self._newest = frame
        anchor = self._anchor
        if anchor is None or overtaken():
            return None
        behind = frame.index - anchor.frame.index
        if behind < (_BEHIND if mode == "auto" else 1):
            return None
        motion = self._motion_to(frame, anchor)
        if motion is None or overtaken():
            return None
        return Picture(carry(anchor.pixels, motion), frame)

    def ahead_of(self, frame: Frame, mode: str) -> bool:
        """Whether pictures are carried, and the camera has seen more since ``frame``."""
        return mode != "off" and self._newest is not None and self._newest.captured_at > frame.captured_at

    def styled(self, pixels: np.ndarray, frame: Frame, mode: str, *, same: bool = False) -> Picture:
        """A styled picture has come in: as it is to be shown, carried forward if the camera is ahead of it.

        Args:
            pixels: (H, W, 3) uint8, or (H, W, 4) with the opacity.
            frame: the camera frame that it was made for.
            mode: as in ``seen``.
            same: the model made no new picture for ``frame`` (similarity filter): these are the pixels of the last one.
        """
        if mode == "off" or not self._track.add(frame):
            self._anchor, self._so_far = None, None
            return Picture(pixels, frame)
        if not (same and self._anchor is not None and self._anchor.pixels.shape == pixels.shape):
            self._anchor, self._so_far = Picture(pixels, frame), None
        now = self._newest if self._newest is not None and self.ahead_of(frame, mode) else frame
        if now is self._anchor.frame:
            return self._anchor
        motion = self._motion_to(now, self._anchor)
        return Picture(pixels, frame) if motion is None else Picture(carry(self._anchor.pixels, motion), now)

    def _motion_to(self, frame: Frame, anchor: Picture) -> Motion | None:
        """From the anchor to ``frame``, going on from where the last call came."""
        start, done = self._so_far or (anchor.frame, None)
        motion = self._track.between(start, frame)
        if motion is not None and done is not None:
            motion = compose(done, motion)
        if motion is None or motion.reliable < LEAST_RELIABLE:
            # A cut: nothing of this picture belongs to what the camera sees now.
            self._anchor, self._so_far = None, None
            return None
        self._so_far = frame, motion
        return motion
