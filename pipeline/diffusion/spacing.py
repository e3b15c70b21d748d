"""Where the steps of a run lie between its strength and no noise: the *spacing*.

``trailing``, ``leading`` and ``linspace`` space the timesteps evenly (arXiv 2305.08891, table 2; ``linspace`` is the
time-uniform spacing of the DPM-Solver paper); ``logsnr`` spaces the logarithm of the signal-to-noise ratio evenly
(DPM-Solver, arXiv 2206.00927, section 4.2), and ``karras`` a power of the noise level (arXiv 2206.00364, eq. 5). The
two last lie between the timesteps that a model knows: there the noise level is exact, and the model is told the
nearest timestep, so that two steps near the end may be told the same one.

Places are counted here in the N levels of the schedule: count c is place c / N, and the level with the least noise has
count 1.
"""

from __future__ import annotations

import torch

from pipeline.config import SPACINGS
from pipeline.diffusion.schedule import Levels, Schedule

# The exponent of ``karras``, as in the paper.
_RHO = 7.0


def space(
    schedule: Schedule,
    spacing: str,
    steps: int,
    strength: float,
    *,
    grid: int | None = None,
    from_noise: bool = False,
) -> Levels:
    """``steps`` noise levels below ``strength`` (0..1] of the schedule; too little strength for so many is raised.

    Args:
        spacing: one of ``SPACINGS``.
        grid: number of levels, evenly spaced over the whole schedule, that a distilled model was trained on. In
            ``trailing`` spacing, and where enough of them lie under the strength, the steps are chosen among them.
        from_noise: the run begins with noise alone: whatever the strength and the spacing, its first step is at the end
            of the schedule, where there is (nearly) no signal, or at the end of the ``grid``.

    Raises:
        ValueError: the spacing is not known.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"the spacing is {spacing!r}; it must be one of {', '.join(SPACINGS)}")
    size, strength = len(schedule), 1.0 if from_noise else strength
    if spacing in ("karras", "logsnr"):
        return schedule.at_ratios(_spaced_ratios(schedule, spacing, steps, _highest(size, steps + 1, strength)))
    if spacing == "linspace":
        counts = _even_with_end(_highest(size, steps + 1, strength), steps)
    elif spacing == "leading":
        counts = _leading(_highest(size, steps + 1, strength), steps, size if from_noise else None)
    elif grid is not None and steps <= int(grid * strength):
        counts = _among_grid(size, grid, int(grid * strength), steps)
    else:
        counts = _trailing(_highest(size, steps, strength), steps)
    return schedule.levels((counts if schedule.continuous else counts.round()) / size)


def _highest(size: int, least: int, strength: float) -> int:
    """The count that is nearest to ``strength``; at least ``least``."""
    return min(max(round(strength * size), least), size)


def _trailing(highest: int, steps: int) -> torch.Tensor:
    """From ``highest`` on: the first step is exactly at the strength, which matters when there is one step only."""
    return highest - torch.arange(steps, dtype=torch.float64) * (highest / steps)


def _among_grid(size: int, grid: int, reached: int, steps: int) -> torch.Tensor:
    """``steps`` of the lowest ``reached`` of ``grid`` levels, as diffusers' ``LCMScheduler`` takes them."""
    passed = torch.linspace(0, reached, steps + 1, dtype=torch.float64)[:-1].floor()
    return (reached - passed) * (size // grid)


def _leading(highest: int, steps: int, first: int | None) -> torch.Tensor:
    """At whole multiples of the step, and so below ``highest``; evenly from ``first`` on where that is given."""
    step = highest // (steps + 1)
    if first is not None:
        return torch.linspace(first, step + 1, steps, dtype=torch.float64)
    return torch.arange(steps, 0, -1, dtype=torch.float64) * step + 1


def _even_with_end(highest: int, steps: int) -> torch.Tensor:
    """From ``highest`` down to count 1, which is not one of the steps."""
    # Rounded from count 0 on, which decides where halves go.
    return torch.linspace(0, highest - 1, steps + 1, dtype=torch.float64).round().flip(0)[:-1] + 1


def _spaced_ratios(schedule: Schedule, spacing: str, steps: int, highest: int) -> torch.Tensor:
    """(steps,) ``sigma / alpha`` from count ``highest`` down to count 1, both included."""
    most, below, least = schedule.ratios(torch.tensor([highest, highest - 1, 1], dtype=torch.float64) / len(schedule))
    # Where there is no signal the ratio is infinite, and nothing can be spaced from there.
    most = most if bool(most.isfinite()) else below
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "karras":
        return (most ** (1 / _RHO)).lerp(least ** (1 / _RHO), share) ** _RHO
    return most.log().lerp(least.log(), share).exp()
