"""The input as the networks see it: in each part of the picture, the frame that was last processed there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.sparse.detector import ChangeDetector
from pipeline.sparse.rectangles import Change, FrameChanges, Rectangle, cover, filled

# A frame is taken as wholly changed where the rectangles around its changes take up more than this share of it: that is
# a scene cut, or so much movement that computing the whole is faster.
DENSE_AREA = 0.5


class EffectiveInput:
    """F pictures that frames are compared with and taken into where they differ.

    A change that is too small to be seen is thus not lost: it adds up, until the difference to the picture is seen.

    Attributes:
        size: (height, width) of the frames.
    """

    def __init__(self, frames: torch.Tensor) -> None:
        """``frames``: (F, 3, H, W) float 0..1, the first ones; all of them is processed."""
        self.size = (frames.shape[2], frames.shape[3])
        self._detectors = [ChangeDetector() for _ in frames]
        self._passed: torch.Tensor | None = None  # the newest frames, where no detector was shown them
        self.take_all(frames)

    def matches(self, frames: torch.Tensor) -> bool:
        """Whether ``frames`` have the number and the size of those before."""
        return len(frames) == len(self._detectors) and (frames.shape[2], frames.shape[3]) == self.size

    @property
    def pictures(self) -> torch.Tensor:
        """(F, 3, H, W) the input as the networks see it. It may go on changing: copy it to keep it."""
        if self._passed is not None:
            return self._passed
        pictures = [detector.picture for detector in self._detectors]
        return pictures[0].unsqueeze(0) if len(pictures) == 1 else torch.stack(pictures)

    def look(
        self,
        frames: torch.Tensor,
        told: Sequence[Sequence[Rectangle] | None],
        keyframe: bool = False,
        needed: np.ndarray | None = None,
    ) -> FrameChanges:
        """Find where the next frames differ from the pictures, and take them in there.

        Args:
            frames: (F, 3, H, W) float 0..1.
            told: for each frame what changed since the frame before; None where that is not known.
            keyframe: whether they are taken as wholly changed, whatever is found.
            needed: (F, ceil(H / 8), ceil(W / 8)) bool, the blocks to look at; all by default.
        """
        self._passed = None
        where = [None] * len(frames) if needed is None else needed
        return tuple(
            self._look(detector, frame, known, keyframe, blocks)
            for detector, frame, known, blocks in zip(self._detectors, frames.cpu(), told, where, strict=True)
        )

    def _look(
        self,
        detector: ChangeDetector,
        frame: torch.Tensor,
        told: Sequence[Rectangle] | None,
        keyframe: bool,
        needed: np.ndarray | None,
    ) -> Change:
        height, width = self.size
        # What is told is of this frame alone: what was not needed then may be now, and only the reference knows of it.
        if told is None or needed is not None:
            blocks = detector.look(frame, needed)
        else:
            blocks = filled(tuple(told), height, width)
        change = cover(blocks) if blocks.mean() <= DENSE_AREA else ((0, 0, width, height),)
        area = sum((right - left) * (bottom - top) for left, top, right, bottom in change)
        if keyframe or area > DENSE_AREA * height * width:
            detector.take_all(frame)
            return None
        detector.take(frame, change)
        return change

    def take_all(self, frames: torch.Tensor) -> None:
        """``frames`` (F, 3, H, W) are processed as a whole; the next ones are compared with them."""
        self._passed = None
        for detector, frame in zip(self._detectors, frames.cpu(), strict=True):
            detector.take_all(frame)

    def pass_by(self, frames: torch.Tensor) -> None:
        """``frames`` (F, 3, H, W) are processed as a whole, and no frame is compared with them."""
        self._passed = frames
