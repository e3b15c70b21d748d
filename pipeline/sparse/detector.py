"""Which blocks of a captured frame changed, found on the CPU, against the frame that was last processed there."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pipeline.sparse.rectangles import BLOCK, Rectangle, bounds, grown

# A block has changed where its score, the mean difference 0..1 of its pixels, is above both of these: an absolute value
# and a multiple of the noise floor.
LEAST_CHANGE = 4 / 255
ABOVE_NOISE = 1.6
# A block that had changed in the frame before still has while its score is above both of these (hysteresis).
LEAST_CHANGE_HELD = 2.5 / 255
ABOVE_NOISE_HELD = 1.3
# A block without a changed neighbour must be above so many times the threshold. A speck is mostly noise, and costs as
# much as the whole neighbourhood that is computed around it; where it is none, its difference waits in the reference
# until it is plain to see.
ISOLATED_FACTOR = 2.0
# A frame is *busy* to the degree that blocks are above ``ISOLATED_FACTOR`` times the threshold: fully, where this share
# of all blocks is.
BUSY_SHARE = 0.01
# In a busy frame the threshold is so many times as high. Beside what moves small changes are not seen, but they lie
# scattered, and to compute all that is between them would hold the picture up. They are taken once less moves.
BUSY_FACTOR = 1.5
# In one half of a busy frame, left or right in turn, the threshold is even so many times as high: a small change there
# may be a frame late. But not where more than this share of the blocks has changed: such a frame is computed as a
# whole, and its two halves must not be of different frames.
DEFERRED_FACTOR, NO_DEFERRAL_SHARE = 3.0, 0.25
# The lines of a frame that were not looked at are looked at around changed blocks, where the bounding box of these is
# less than this share of the picture.
AROUND_AREA = 0.5
# The noise floor is never taken to be above this: more is movement.
HIGHEST_FLOOR = 6 / 255
# The noise floor is the median of so many pairs of frames, of which one in four is taken: about a second of a live
# picture.
FLOOR_FRAMES = 9
# Noise raises the scores of all blocks about alike, movement those of some much more than others. So the floor is
# learned only from pairs of frames in which the upper quartile of the scores is below so many times the lower one.
NOISE_SPREAD = 2.5


class ChangeDetector:
    """Change detection for one live picture.

    The score of a block of 8x8 pixels is the mean absolute difference between the frame and the *reference*: for each
    block, the frame that was last processed there. A slow change thus adds up until it is above the threshold, where a
    comparison with the previous frame would never see it. The threshold follows the noise floor, which is the median
    block score between consecutive frames; it has hysteresis, and is higher in frames in which much moves.

    Only every other line of a frame is looked at, the other ones within two frames, and at once around a change.

    Attributes:
        reference: (3, H, W) float32, the picture that has been processed; None before the first frame.
        floor: the noise floor, 0..1.
    """

    def __init__(self) -> None:
        self.reference: torch.Tensor | None = None
        self._previous: torch.Tensor | None = None
        self._room = np.empty(0, np.float32)  # to calculate in: to allocate it for each frame is slow
        self._held = np.zeros((0, 0), bool)
        self._middle = 0  # the column of blocks at which the right half of a busy frame begins
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

    def look(self, frame: torch.Tensor, needed: np.ndarray | None = None) -> np.ndarray:
        """Find the blocks that changed since they were last taken.

        Args:
            frame: (3, H, W) float 0..1 on the CPU, of the size of the one that was taken first.
            needed: (ceil(H / 8), ceil(W / 8)) bool, the blocks that are looked at; all by default. Elsewhere the
                difference waits in the reference.

        Returns:
            (ceil(H / 8), ceil(W / 8)) bool.
        """
        frame = frame.float()
        self._count += 1
        line = self._count // 2 % 2  # not ``_count % 2``, by which halves take turns: each is to see all lines
        lines = frame[:, line::2]
        if self._room.shape != (2, *lines.shape[1:]):
            self._room = np.empty((2, *lines.shape[1:]), np.float32)
        score = block_scores(lines, self.picture[:, line::2], BLOCK // 2, BLOCK, self._room)
        if needed is not None:
            score *= needed
        self._learn_noise(frame)
        floor = self.floor
        fire = max(ABOVE_NOISE * floor, LEAST_CHANGE)
        factors = self._threshold_factors(score, fire)
        fire, hold = factors * fire, factors * max(ABOVE_NOISE_HELD * floor, LEAST_CHANGE_HELD)
        active = (score > fire) | (self._held & (score > hold))
        active &= beside(active) | (score > ISOLATED_FACTOR * fire)
        # A change may reach a little way into the next blocks, there perhaps only in lines that were not looked at.
        reached = (score > hold) | (self._scores_around(active, frame, 1 - line) > hold)
        self._held = active | (reached & beside(active))
        if needed is not None:
            self._held &= needed
        return self._held

    def _threshold_factors(self, score: np.ndarray, fire: float) -> np.ndarray:
        """(w,) how many times as high the threshold ``fire`` is in each column of blocks."""
        busy = min(1.0, np.count_nonzero(score > ISOLATED_FACTOR * fire) / (BUSY_SHARE * score.size))
        changed = np.cumsum(np.count_nonzero(score > BUSY_FACTOR * fire, axis=0))
        left = self._count % 2 == 0
        if left:
            # Both halves have as many changed blocks. They stay for two frames: the right one has its turn in the next.
            self._middle = int(np.searchsorted(changed, changed[-1] / 2)) + 1
        deferred = DEFERRED_FACTOR if changed[-1] <= NO_DEFERRAL_SHARE * score.size else BUSY_FACTOR
        turn = (np.arange(score.shape[1]) < self._middle) == left
        return 1 + busy * (np.where(turn, BUSY_FACTOR, deferred) - 1)

    def _scores_around(self, active: np.ndarray, frame: torch.Tensor, line: int) -> np.ndarray:
        """Block scores by the lines ``line``, ``line + 2``, ... in the bounding box of ``active`` and beside it.

        They are 0 elsewhere; and everywhere where that box is large, as it would take as long as the first look.
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
        """Learn the noise floor from one pair of consecutive frames in four, of which every fourth line is enough."""
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
    # Plane by plane, so that each is summed up while it is in the processor's cache.
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
