"""What a solver is made of: the run it is planned for, and its steps as small matrices.

With ``lambda = log(alpha / sigma)``. A frame in flight has a *state*: its latent, its last data predictions and an
anchor. A step takes the state, this step's data prediction and the noise of the next step to the next latent and the
next anchor, each of which is a linear combination: two rows, with a column for each of ``COLUMNS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.diffusion.schedule import Levels, Schedule

# The latent, this step's data prediction, those of one, two and three steps back, the anchor, the anchor that the step
# before found, the next step's noise.
COLUMNS = ("x", "data", "previous", "older", "oldest", "anchor", "earlier", "noise")

# Weights by column; those that are not there are zero.
Row = Mapping[str, float]

KEEP: Row = {"anchor": 1.0}
TAKE_LATENT: Row = {"x": 1.0}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a solver.

    Attributes:
        latent: the row of the next latent.
        anchor: the row of the anchor that the steps after this one find; empty where they look at none.
        anchor_step: at which step's noise level the anchor lies that *this* step finds; None where it looks at none.
    """

    latent: Row
    anchor: Row = field(default_factory=dict)
    anchor_step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """All that a solver may know of a run of T steps from some noise down to none.

    Attributes:
        levels: of the T steps, from the most noise to the least.
        schedule: where they are taken from.
        lower_order_final: the orders of multistep solvers descend towards the end of a run of few steps, instead of in
            the very last step alone.
        gamma: 0..1, how much of its noise a stochastic consistency solver replaces at each step.
    """

    levels: Levels
    schedule: Schedule
    lower_order_final: bool = True
    gamma: float = 0.3

    @property
    def steps(self) -> int:
        """T."""
        return len(self.levels.alpha)

    def at(self, k: int) -> tuple[float, float, float]:
        """(alpha, sigma, lambda) at step ``k``; at k = T the end, without noise.

        lambda is infinite at the end, and minus infinity where there is no signal.
        """
        if k == self.steps:
            return 1.0, 0.0, math.inf
        alpha, sigma = float(self.levels.alpha[k]), float(self.levels.sigma[k])
        return alpha, sigma, math.log(alpha / sigma) if alpha else -math.inf

    def ends_low(self) -> bool:
        """Whether the last step begins at the least noise of the schedule, and so is next to nothing."""
        least = self.schedule.ratios(torch.tensor([1 / len(self.schedule)], dtype=torch.float64))
        return float(self.levels.sigma[-1] / self.levels.alpha[-1]) < 1.001 * float(least)

    def first_known(self) -> int:
        """The first step at which lambda is finite: no formula of higher order may look back beyond it."""
        return 0 if float(self.levels.alpha[0]) else 1


def first_order(run: Run, k: int) -> Row:
    """DDIM with eta = 0 (arXiv 2010.02502, eq. 12): DPM-Solver-1 and DPM-Solver++(1) are this same map.

    It needs no lambda, and so holds where there is no signal and where there is no noise left. Of flow matching it is
    Euler's method.
    """
    alpha, sigma, _ = run.at(k)
    next_alpha, next_sigma, _ = run.at(k + 1)
    return {"x": next_sigma / sigma, "data": next_alpha - next_sigma / sigma * alpha}
