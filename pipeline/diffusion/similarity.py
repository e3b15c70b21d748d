"""Stochastic Similarity Filter (SSF; StreamDiffusion, arXiv 2312.12491, section 3.4): is this frame worth the work?

The decision is made on a small copy of the frame on the CPU, before anything is uploaded. It is pure apart from its
seeded random numbers; nothing here waits or sleeps.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

# Side of the small copy in pixels: few enough that sensor noise averages out, enough to see a hand move.
_SIDE = 32

# How large a change is, is measured by this length, in units of -1..1: a root mean square change of 0.2 of it is just
# what a threshold of 0.98 lets pass. A smaller one sees smaller hands, and more of the camera's noise.
_UNIT = 0.25

# A scene stands still once so many frames in a row were skipped that were each so likely to be, or once nothing was
# kept for so many seconds.
STILL_RUN, STILL_LIKELIHOOD, STILL_SECONDS = 3, 0.95, 0.5


def small_copy(frames: torch.Tensor) -> torch.Tensor:
    """(F, 3, H, W) float 0..1 to (F, 3, 32, 32) float in -1..1 on the CPU."""
    return F.interpolate(frames, size=(_SIDE, _SIDE), mode="area").mul(2).sub(1).cpu()


def similarity(reference: torch.Tensor, small: torch.Tensor) -> float:
    """S in 0..1 of two ``small_copy``s of one shape: 1 where they are equal, whatever they show.

    It is the cosine between (0, u) and (change, u), two pictures seen from the reference, with a constant beside their
    pixels; so its angle has the root mean square change over u as its tangent. Equal changes count equally in every
    scene, be it bright or dark, flat or full of contrast. StreamDiffusion takes the cosine of the pictures as they are
    in -1..1, so that changes are measured by how far the scene is from mid-grey: in front of a grey wall, which is
    nearly the null vector, noise is a cut, and in a dark room a lamp is nothing, since a brighter picture of it points
    the same way. In scenes of ordinary contrast both agree.
    """
    return float(_UNIT / ((small - reference).square().mean() + _UNIT**2).sqrt())


def skip_probability(similarity: float, threshold: float) -> float:
    """``P(skip) = max(0, (S - eta) / (1 - eta))`` (paper, eq. 5); at eta = 1 nothing is skipped."""
    if threshold >= 1.0:
        return 0.0
    return min(1.0, max(0.0, (similarity - threshold) / (1.0 - threshold)))


class SimilarityFilter:
    """Decides frame by frame. The reference is the last frame that was *not* skipped, so slow change adds up.

    Attributes:
        similarity: of the last frame decided on: for meters.
        still: whether the scene stands still, and not only moves slowly. It does until a frame comes that is less like
            the reference than those of a still scene are; not with a frame that is kept by the cap or by chance alone.

            Whoever has work left on the reference may then finish it: little else is to come. It must not be done
            sooner. Where frames are skipped with a probability of 0.9, three in a row are nothing out of the ordinary,
            and nor is the same picture twice or thrice where a film is shown at a higher rate than its own; finishing
            work each time would cost more than the filter saves. So the frames in the row must be alike as only a still
            scene's are. Or else nothing must have been kept for half a second, which is as long as a picture should be
            late. With the usual cap and 30 frames a second, that never comes.
    """

    def __init__(self, threshold: float = 0.98, skip_cap: int = 10, seed: int = 0) -> None:
        """``threshold`` is eta (0..1), ``skip_cap`` the most frames skipped in a row (0: none ever is)."""
        self.threshold = threshold
        self.skip_cap = skip_cap
        self.similarity = 0.0
        self.still = False
        self._random = random.Random(seed)
        self._reference: torch.Tensor | None = None
        self._kept_at = 0.0
        self._skipped_in_a_row = 0
        self._alike_in_a_row = 0

    def reset(self) -> None:
        """Forget the reference: the next frame is not skipped."""
        self._reference = None
        self.still = False

    def should_skip(self, frames: torch.Tensor, at: float) -> bool:
        """Decide on (F, 3, H, W) float 0..1 frames on the CPU; several frames are decided on together.

        ``at`` is when the last of them was taken, in seconds of any clock.
        """
        small = small_copy(frames)
        if self._reference is None or self._reference.shape != small.shape:
            self.similarity = 0.0
        else:
            self.similarity = similarity(self._reference, small)
        likely = skip_probability(self.similarity, self.threshold)
        if self._skipped_in_a_row < self.skip_cap and self._random.random() < likely:
            self._skip(likely, at)
            return True
        self._keep(small, likely, at)
        return False

    def keep(self, frames: torch.Tensor, at: float) -> None:
        """As ``should_skip``, of frames that are not to be skipped whatever they show: something new begins."""
        self._keep(small_copy(frames), 0.0, at)

    def _skip(self, likely: float, at: float) -> None:
        self._skipped_in_a_row += 1
        self._alike_in_a_row = self._alike_in_a_row + 1 if likely >= STILL_LIKELIHOOD else 0
        self._kept_at = min(self._kept_at, at)  # a clock may step back, as that of a clip that begins again does
        self.still = self.still or self._alike_in_a_row >= STILL_RUN or at - self._kept_at >= STILL_SECONDS

    def _keep(self, small: torch.Tensor, likely: float, at: float) -> None:
        self.still = self.still and likely >= STILL_LIKELIHOOD
        self._reference = small
        self._kept_at = at
        self._skipped_in_a_row = self._alike_in_a_row = 0
