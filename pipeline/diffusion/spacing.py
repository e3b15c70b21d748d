"""Where the steps of a run lie between its strength and no noise: the *spacing*.

``trailing``, ``leading`` and ``linspace`` space the timesteps evenly (arXiv 2305.08891, table 2; ``linspace`` is the
time-uniform spacing of the DPM-Solver paper); ``logsnr`` spaces the logarithm of the signal-to-noise ratio evenly
(DPM-Solver, arXiv 2206.00927, section 4.2), and ``karras`` a power of the noise level (arXiv 2206.00364, eq. 5). The
two last lie between the timesteps that the model knows: there the noise level is exact, and the model is told the
nearest timestep, so that two steps near the end may be told the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.config import SPACINGS
from pipeline.diffusion.schedule import NoiseSchedule

# The exponent of ``karras``, as in the paper.
_RHO = 7.0


@dataclass(frozen=True, slots=True)
class Ladder:
    """The noise levels of a run of T steps, from the most noise to the least; the end without noise is not in it.

    Attributes:
        timesteps: (T,) int64, never increasing; what the model is told.
        alpha, sigma: (T,) float64, ``alpha^2 + sigma^2 = 1``; ``sigma`` decreases strictly.

    Raises:
        ValueError: there is no step, or the noise does not decrease.
    """

    timesteps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor

    def __post_init__(self) -> None:
        if len(self.timesteps) == 0 or bool((self.sigma.diff() >= 0).any()):
            raise ValueError(
                f"the timesteps are {self.timesteps.tolist()}; the noise must decrease from each to the next"
            )

    @classmethod
    def at(cls, schedule: NoiseSchedule, timesteps: torch.Tensor) -> Ladder:
        """The noise levels that ``schedule`` has at ``timesteps`` ((T,) int64)."""
        return cls(timesteps, *schedule.alpha_sigma(timesteps))


def space(schedule: NoiseSchedule, spacing: str, steps: int, strength: float) -> Ladder:
    """``steps`` noise levels below ``strength`` (0..1] of the schedule; too little strength for so many is raised.

    Raises:
        ValueError: the spacing is not known.
    """
    if spacing == "trailing":
        return Ladder.at(schedule, schedule.timesteps(steps, strength))
    if spacing not in SPACINGS:
        raise ValueError(f"the spacing is {spacing!r}; it must be one of {', '.join(SPACINGS)}")
    count = min(max(round(strength * len(schedule)), steps + 1), len(schedule))
    if spacing == "leading":
        return Ladder.at(schedule, torch.arange(steps, 0, -1) * (count // (steps + 1)))
    if spacing == "linspace":
        return Ladder.at(
            schedule, torch.linspace(0, count - 1, steps + 1, dtype=torch.float64).round().long().flip(0)[:-1]
        )
    ratios = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    most, least = ratios[count - 1], ratios[0]
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "karras":
        chosen = (most ** (1 / _RHO)).lerp(least ** (1 / _RHO), share) ** _RHO
    else:
        chosen = most.log().lerp(least.log(), share).exp()
    alpha = (1 + chosen**2).rsqrt()
    return Ladder(_nearest_timesteps(chosen, ratios), alpha, chosen * alpha)


def _nearest_timesteps(chosen: torch.Tensor, ratios: torch.Tensor) -> torch.Tensor:
    """For each of ``chosen`` (sigma / alpha) the timestep at which ``ratios``, in logarithm, come nearest to it."""
    known, wanted = ratios.log(), chosen.log()
    above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    low, high = known[above - 1], known[above]
    share = ((wanted - low) / (high - low)).clamp(0, 1)
    return (above - 1 + share).round().long()
