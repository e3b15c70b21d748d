"""Which blocks of a captured frame changed: on the CPU, against the frame that was last processed there."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.sparse.region import BLOCK

# A block is active above this mean difference, whatever the noise; 0..1.
LEAST_CHANGE = 2.5 / 255
# ... and above this multiple of the noise floor.
ABOVE_NOISE = 1.6
# An active block stays active down to these.
LEAST_CHANGE_HELD = 1.5 / 255
ABOVE_NOISE_HELD = 1.3
# A block none of whose neighbours is active must be this much above the threshold: specks are noise, or wait in the
# reference until they are plain to see, and a speck costs as much as the whole neighbourhood that it lights up.
ALONE = 2.0
# The floor is never taken to be above this: more is movement.
HIGHEST_FLOOR = 6 / 255
# Frames over which the floor is a median; a second of a live picture.
FLOOR_FRAMES = 25
# Noise lights up all blocks about alike, movement some much more than others: the floor only learns from frames in
# which the upper quartile of the block scores is below this multiple of the lower one.
NOISE_SPREAD = 2.5

# left, top, right, bottom in pixels, right and bottom past the last
Rectangle = tuple[int, int, int, int]


class ChangeDetector:
    """Change detection for one live picture.

    The score of a block of 8x8 pixels is the mean absolute difference between the frame and the *reference*: for each
    block, the frame that was last processed there. A slow change thus adds up until it fires, where a comparison with
    the previous frame would never see it. The threshold follows the noise floor, the median block score between
    consecutive frames; it has hysteresis.

    Attributes:
        reference: (3, H, W) float32, the picture that has been processed; None before the first frame.
        floor: noise floor, 0..1.
    """

    def __init__(self) -> None:
        self.reference: torch.Tensor | None = None
        self._previous: torch.Tensor | None = None
        self._held = np.zeros((0, 0), bool)
        self._floors: deque[float] = deque(maxlen=FLOOR_FRAMES)

    @property
    def floor(self) -> float:
        return min(HIGHEST_FLOOR, statistics.median(self._floors)) if self._floors else 0.0

    @property
    def picture(self) -> torch.Tensor:
        """(3, H, W) the reference. It goes on changing: copy it to keep it."""
        assert self.reference is not None
        return self.reference

    def take_all(self, frame: torch.Tensor) -> None:
        """The (3, H, W) frame seen last is processed everywhere, changed or not."""
        self.picture.copy_(frame)
        self._held.fill(True)

    def __call__(self, frame: torch.Tensor, rectangles: Sequence[Rectangle] | None = None) -> np.ndarray:
        """Find what changed, and take the frame into the reference there.

        Args:
            frame: (3, H, W) float 0..1 on the CPU.
            rectangles: exactly what changed since the last frame, where the source knows; nothing is estimated then.

        Returns:
            (ceil(H / 8), ceil(W / 8)) bool.
        """
        frame = frame.float()
        if self.reference is None or self.reference.shape != frame.shape:
            self.reference = frame.clone()
            self._previous = frame[..., ::2, ::2].clone()
            self._held = np.ones((-(-frame.shape[1] // BLOCK), -(-frame.shape[2] // BLOCK)), bool)
            return self._held.copy()
        active = self._estimate(frame) if rectangles is None else blocks_of(rectangles, frame.shape[1], frame.shape[2])
        self._held = active.copy()
        self._take(frame, active)
        return active

    def _estimate(self, frame: torch.Tensor) -> np.ndarray:
        assert self.reference is not None
        score = block_scores(frame, self.reference, BLOCK)
        self._learn_noise(frame)
        floor = self.floor
        fire = max(ABOVE_NOISE * floor, LEAST_CHANGE)
        hold = max(ABOVE_NOISE_HELD * floor, LEAST_CHANGE_HELD)
        active = (score > fire) | (self._held & (score > hold))
        return active & ((neighbours(active) > 0) | (score > ALONE * fire))

    def _learn_noise(self, frame: torch.Tensor) -> None:
        # Every other pixel is enough to know the noise by.
        frame = frame[..., ::2, ::2]
        assert self._previous is not None
        lower, middle, upper = np.quantile(block_scores(frame, self._previous, BLOCK // 2), (0.25, 0.5, 0.75))
        if upper <= NOISE_SPREAD * lower or upper <= LEAST_CHANGE_HELD:
            self._floors.append(float(middle))
        self._previous = frame.clone()

    def _take(self, frame: torch.Tensor, active: np.ndarray) -> None:
        assert self.reference is not None
        height, width = frame.shape[1:]
        if active.all():
            self.reference.copy_(frame)
        elif height % BLOCK or width % BLOCK:
            mask = torch.from_numpy(active.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])
            torch.where(mask, frame, self.reference, out=self.reference)
        else:
            down, across = (torch.from_numpy(index) for index in np.nonzero(active))
            tall = (3, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
            self.reference.view(tall)[:, down, :, across] = frame.reshape(tall)[:, down, :, across]


def block_scores(frame: torch.Tensor, other: torch.Tensor, block: int) -> np.ndarray:
    """Mean absolute difference of two (3, H, W) pictures in each block, over its pixels and channels."""
    difference = (frame - other).abs_()
    height, width = frame.shape[1:]
    if height % block or width % block:
        return F.avg_pool2d(difference[None], block, ceil_mode=True, count_include_pad=False)[0].mean(0).numpy()
    down, across = height // block, width // block
    # Two sums, the long one first: several times faster than a pooling.
    lines = difference.view(3 * down, block, width).sum(1).view(3, down, across, block).sum(3)
    return (lines.sum(0) / (3 * block * block)).numpy()


def neighbours(active: np.ndarray) -> np.ndarray:
    """How many of the eight blocks around each are active."""
    padded = np.pad(active.astype(np.int8), 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - active


def blocks_of(rectangles: Sequence[Rectangle], height: int, width: int) -> np.ndarray:
    """The blocks that ``rectangles`` touch; what lies outside the picture is left out."""
    blocks = np.zeros((-(-height // BLOCK), -(-width // BLOCK)), bool)
    for left, top, right, bottom in rectangles:
        if right > left and bottom > top:
            rows = slice(max(0, top) // BLOCK, max(0, -(-bottom // BLOCK)))
            blocks[rows, max(0, left) // BLOCK : max(0, -(-right // BLOCK))] = True
    return blocks
