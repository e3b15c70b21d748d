"""Stochastic Similarity Filter (SSF; StreamDiffusion, arXiv 2312.12491, section 3.4): is this frame worth the work?

The decision is made on a small grey copy of the frame on the CPU, before anything is uploaded. It is pure apart from
its seeded random numbers; nothing here waits or sleeps.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

# Side of the grey copy in pixels: enough to see a hand move, few enough that sensor noise averages out.
_GREY_SIDE = 64

# Added to brightness (0..1) so that a black frame has a direction, too, and equals itself.
_PEDESTAL = 1.0 / 255.0

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grey_copy(frames: torch.Tensor) -> torch.Tensor:
    """(F, 3, H, W) float 0..1 to a flat float64 vector of small grey pictures."""
    small = F.interpolate(frames, size=(_GREY_SIDE, _GREY_SIDE), mode="area")
    # Double precision, which not every device has: in single, a frame would be only 0.9999999 similar to itself.
    return (small * small.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1).flatten().cpu().double() + _PEDESTAL


def skip_probability(similarity: float, threshold: float) -> float:
    """``P(skip) = max(0, (S - eta) / (1 - eta))`` (paper, eq. 5); at eta = 1 nothing is skipped."""
    if threshold >= 1.0:
        return 0.0
    return min(1.0, max(0.0, (similarity - threshold) / (1.0 - threshold)))


class SimilarityFilter:
    """Decides frame by frame. The reference is the last frame that was *not* skipped, so slow change adds up."""

    def __init__(self, threshold: float = 0.98, skip_cap: int = 10, seed: int = 0) -> None:
        """``threshold`` is eta (0..1), ``skip_cap`` the most frames skipped in a row (0: none ever is)."""
        self.threshold = threshold
        self.skip_cap = skip_cap
        self.similarity = 0.0  # of the last frame decided on: for meters
        self._random = random.Random(seed)
        self._reference: torch.Tensor | None = None
        self._skipped_in_a_row = 0

    def reset(self) -> None:
        """Forget the reference: the next frame is not skipped."""
        self._reference = None

    def should_skip(self, frames: torch.Tensor) -> bool:
        """Decide on (F, 3, H, W) float 0..1 frames on the CPU; several frames are decided on together."""
        grey = grey_copy(frames)
        if self._reference is None or self._reference.shape != grey.shape:
            self.similarity = 0.0
        else:
            self.similarity = float(F.cosine_similarity(grey, self._reference, dim=0))
            likely = skip_probability(self.similarity, self.threshold)
            if self._skipped_in_a_row < self.skip_cap and self._random.random() < likely:
                self._skipped_in_a_row += 1
                return True
        self._reference = grey
        self._skipped_in_a_row = 0
        return False
