"""Which blocks of a captured frame changed: on the CPU, against the frame that was last processed there."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pipeline.sparse.rectangles import BLOCK, Rectangle, bounds, grown

# A block is active above this mean difference, whatever the noise; 0..1.
LEAST_CHANGE = 4 / 255
# ... and above this multiple of the noise floor.
ABOVE_NOISE = 1.6
# An active block stays active down to these.
LEAST_CHANGE_HELD = 2.5 / 255
ABOVE_NOISE_HELD = 1.3
# A block none of whose neighbours is active must be this much above the threshold: specks are noise, or wait in the
# reference until they are plain to see, and a speck costs as much as the whole neighbourhood that it lights up.
ALONE = 2.0
# Where this share of all blocks, or more, is as far above it, the threshold is so many times as high: beside what
# moves, small changes are not seen, but lie scattered, and computing all between them would hold the picture up. They
# are taken as soon as less moves.
BUSY, WHEN_BUSY = 0.01, 1.5
# And so many times in one half of the picture, left or right in turn: a small change may be a frame late there. But not
# where more than this share changes: that is computed as a whole, and is not to tear.
WHEN_WAITING, MUCH = 3.0, 0.25
# Beside active blocks all lines are looked at, where their bounding box takes up less than this share of the picture.
AROUND_AREA = 0.5
# The floor is never taken to be above this: more is movement.
HIGHEST_FLOOR = 6 / 255
# Pairs of frames, one in four, over which the floor is a median; about a second of a live picture.
FLOOR_FRAMES = 9
# Noise lights up all blocks about alike, movement some much more than others: the floor only learns from frames in
# which the upper quartile of the block scores is below this multiple of the lower one.
NOISE_SPREAD = 2.5


class ChangeDetector:
    """Change detection for one live picture.

    The score of a block of 8x8 pixels is the mean absolute difference between the frame and the *reference*: for each
    block, the frame that was last processed there. A slow change thus adds up until it fires, where a comparison with
    the previous frame would never see it. The threshold follows the noise floor, the median block score between
    consecutive frames; it has hysteresis, and rises where much else changes. Every other line of the frame is looked
    at, the other ones soon after, and where something changed.

    Attributes:
        reference: (3, H, W) float32, the picture that has been processed; None before the first frame.
        floor: noise floor, 0..1.
    """

    def __init__(self) -> None:
        self.reference: torch.Tensor | None = None
        self._previous: torch.Tensor | None = None
        self._room = np.empty(0, np.float32)  # to calculate in: large memory that is new is slow
        self._held = np.zeros((0, 0), bool)
        self._middle = 0  # column of blocks that parts the halves of a busy picture
        self._floors: deque[float] = deque(maxlen=FLOOR_FRAMES)
        self._count = 0

    @property
    def floor(self) -> float:
        return min(HIGHEST_FLOOR, statistics.median(self._floors)) if self._floors else 0.0

    @property
    def picture(self) -> torch.Tensor:
        """(3, H, W) the reference. It goes on changing: copy it to keep it."""
        assert self.reference is not None
        return self.reference

    def look(self, frame: torch.Tensor) -> np.ndarray:
        """Find what changed since it was last taken; (ceil(H / 8), ceil(W / 8)) bool.

        Args:
            frame: (3, H, W) float 0..1 on the CPU, of the size of the one that was taken first.
        """
        frame = frame.float()
        self._count += 1
        line = self._count // 2 % 2  # so that both halves of a busy picture see all lines
        lines = frame[:, line::2]
        if self._room.shape != (2, *lines.shape[1:]):
            self._room = np.empty((2, *lines.shape[1:]), np.float32)
        score = block_scores(lines, self.picture[:, line::2], BLOCK // 2, BLOCK, self._room)
        self._learn_noise(frame)
        floor = self.floor
        fire = max(ABOVE_NOISE * floor, LEAST_CHANGE)
        patience = self._patience(score, fire)
        fire, hold = patience * fire, patience * max(ABOVE_NOISE_HELD * floor, LEAST_CHANGE_HELD)
        active = (score > fire) | (self._held & (score > hold))
        active &= beside(active) | (score > ALONE * fire)
        # A sliver of the change may reach into the next blocks, and may lie in the lines not looked at.
        reached = (score > hold) | (self._scores_around(active, frame, 1 - line) > hold)
        self._held = active | (reached & beside(active))
        return self._held

    def _patience(self, score: np.ndarray, fire: float) -> np.ndarray:
        """(w,) by which factor the thresholds are higher in each column of blocks."""
        busy = min(1.0, np.count_nonzero(score > ALONE * fire) / (BUSY * score.size))
        changed = np.cumsum(np.count_nonzero(score > WHEN_BUSY * fire, axis=0))
        left = self._count % 2 == 0
        if left:
            # As much of what may have to wait is on each side; the right one has its turn in the next frame.
            self._middle = int(np.searchsorted(changed, changed[-1] / 2)) + 1
        waiting = WHEN_WAITING if changed[-1] <= MUCH * score.size else WHEN_BUSY
        turn = (np.arange(score.shape[1]) < self._middle) == left
        return 1 + busy * (np.where(turn, WHEN_BUSY, waiting) - 1)

    def _scores_around(self, active: np.ndarray, frame: torch.Tensor, line: int) -> np.ndarray:
        """Block scores by the lines ``line``, ``line + 2``, ... around what is active; 0 elsewhere.

        Where much has changed, nowhere: it would take as long as the first look.
        """
        scores = np.zeros(active.shape, np.float32)
        box = bounds(active)
        if box is None or (box[2] - box[0]) * (box[3] - box[1]) > AROUND_AREA * active.size:
            return scores
        left, top, right, bottom = grown(box, 1, active.shape[1], active.shape[0])
        rows, columns = slice(BLOCK * top + line, BLOCK * bottom, 2), slice(BLOCK * left, BLOCK * right)
        part = block_scores(frame[:, rows, columns], self.picture[:, rows, columns], BLOCK // 2, BLOCK)
        scores[top:bottom, left:right] = part
        return scores

    def take(self, frame: torch.Tensor, rectangles: Sequence[Rectangle]) -> None:
        """The (3, H, W) frame is processed inside these rectangles."""
        for left, top, right, bottom in rectangles:
            self.picture[:, top:bottom, left:right] = frame[:, top:bottom, left:right]

    def take_all(self, frame: torch.Tensor) -> None:
        """The (3, H, W) frame is processed everywhere, changed or not; it may be the first, or of another size."""
        if self.reference is None or self.reference.shape != frame.shape:
            self.reference = torch.empty(frame.shape)
            self._previous = None
            self._held = np.zeros((-(-frame.shape[1] // BLOCK), -(-frame.shape[2] // BLOCK)), bool)
        self.reference.copy_(frame)

    def _learn_noise(self, frame: torch.Tensor) -> None:
        # A part of the pixels of one pair of frames in four is enough to know the noise by.
        phase = self._count % 4
        if phase == 0:
            self._previous = frame[:, ::4].clone()
        elif phase == 1 and self._previous is not None:
            scores = block_scores(frame[:, ::4], self._previous, BLOCK // 4, BLOCK)
            lower, middle, upper = np.quantile(scores, (0.25, 0.5, 0.75))
            if upper <= NOISE_SPREAD * lower or upper <= LEAST_CHANGE_HELD:
                self._floors.append(float(middle))


def block_scores(
    frame: torch.Tensor, other: torch.Tensor, high: int, wide: int, room: np.ndarray | None = None
) -> np.ndarray:
    """Mean absolute difference of two (3, H, W) pictures in each block of ``high`` x ``wide``.

    Args:
        room: (2, H, W) float32 to calculate in.
    """
    height, width = frame.shape[1:]
    total, one = np.empty((2, height, width), np.float32) if room is None else room
    # Plane by plane, so that each is summed up while it is in the processor's own memory.
    for number, (plane, before) in enumerate(zip(frame.numpy(), other.numpy(), strict=True)):
        cv2.absdiff(plane, before, dst=one if number else total)
        if number:
            cv2.add(total, one, dst=total)
    difference = torch.from_numpy(total)
    if height % high or width % wide:
        pooled = F.avg_pool2d(difference[None], (high, wide), ceil_mode=True, count_include_pad=False)
        return (pooled[0] / len(frame)).numpy()
    # Two sums, the long one first: several times faster than a pooling.
    lines = difference.view(height // high, high, width).sum(1).view(height // high, width // wide, wide).sum(2)
    return (lines / (len(frame) * high * wide)).numpy()


def beside(active: np.ndarray) -> np.ndarray:
    """Which blocks have an active one among the eight around them."""
    return cv2.dilate(active.view(np.uint8), _RING).view(bool)


_RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
