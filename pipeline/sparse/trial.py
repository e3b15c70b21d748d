"""Whether windows of a UNet are right with zeros around them, tried on the first few changes of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.sparse.rectangles import Window, cut

# Changes that each way is tried on; the worst of them decides.
TRIALS = 3
# The largest error inside a change that zeros may have, as a share of the root mean square of the UNet's output.
MOST_ERROR = 0.1
# To be surrounded costs memory and time. It has to bring the error below this share of that of zeros: a change of much
# of the picture changes its norms, too, which no surrounding mends.
WORTH_SURROUNDING = 0.5


@dataclass(frozen=True)
class Trial:
    """What has been found out so far.

    Zeros beyond a window cost nothing, but their error grows inwards with each convolution. How much of it there is
    depends on the network: the embedded UNet has few layers, and a halo of a few pixels is enough for it. In Stable
    Diffusion's layout half of a small change's error stays even with a halo of four. Its windows have to be surrounded
    by what was computed there before (``borders.py``).

    Attributes:
        zeros, surrounded: errors of windows of either kind, one for each change that was tried.
    """

    zeros: tuple[float, ...] = ()
    surrounded: tuple[float, ...] = ()

    @property
    def surrounds(self) -> bool:
        """Whether the windows of the next call are to be surrounded."""
        most = max(self.zeros, default=0.0)
        return most > MOST_ERROR and max(self.surrounded, default=0.0) < WORTH_SURROUNDING * most

    @property
    def over(self) -> bool:
        """Whether enough has been tried."""
        return len(self.surrounded if self.surrounds else self.zeros) >= TRIALS

    def after(self, error: float) -> Trial:
        """After one more change, in which the windows had this ``error_of``."""
        if self.surrounds:
            return replace(self, surrounded=(*self.surrounded, error))
        return replace(self, zeros=(*self.zeros, error))


def error_of(found: torch.Tensor, whole: torch.Tensor, windows: Sequence[tuple[int, Window]]) -> torch.Tensor:
    """How far what ``windows`` (row, window) gave, within ``found``, is from what the whole gives: one number.

    Args:
        found, whole: (B, C, h, w).
    """
    wrong = torch.cat([cut(found[row] - whole[row], one.writes).flatten() for row, one in windows])
    return (wrong.square().mean() / whole.square().mean()).sqrt()
