"""Where the steps of a run lie between its strength and no noise: the *spacing*.

At the timesteps that a model was trained on, and as diffusers has them (arXiv 2305.08891, table 2): ``trailing``,
``leading`` and ``linspace``, which differ in where the even steps begin and end, and ``skipping``, which takes every
n-th level of a distilled model's grid, as the first code of the LCM authors did.

Between them as well, down to the least noise that the model knows and from there on to none: ``logsnr`` spaces the
logarithm of the signal-to-noise ratio evenly, ``time-uniform`` the time and ``time-quadratic`` its square root, the
three of DPM-Solver (arXiv 2206.00927, section 4.2 and appendix D; its authors' ``denoise_to_zero`` is the last step
here); ``karras`` spaces a power of the noise level (arXiv 2206.00364, eq. 5). The model is then told a fraction of a
timestep. (``linspace`` looks like ``time-uniform``, but jumps from its last step, far above the least noise, to none.)

Places are counted here in the N levels of the schedule: count c is place c / N, and the level with the least noise has
count 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config import SPACINGS
from pipeline.diffusion.schedule import Levels, Schedule

# Levels in the grid of a distilled model where nothing else is known (LCM, arXiv 2310.04378, section 4.3).
_GRID = 50
# The exponent of ``karras``, as in the paper.
_RHO = 7.0


def usual_grid(schedule: Schedule) -> int:
    """How many levels a distilled model was trained on, of which nothing else is known."""
    return min(_GRID, len(schedule))


def space(
    schedule: Schedule,
    spacing: str,
    steps: int,
    strength: float,
    *,
    grid: int | None = None,
    from_noise: bool = False,
    groups: Sequence[int] | None = None,
) -> Levels:
    """``steps`` noise levels below ``strength`` (0..1] of the schedule; too little strength for so many is raised.

    Args:
        spacing: one of ``SPACINGS``.
        grid: number of levels, evenly spaced over the whole schedule, that a distilled model was trained on. In
            ``trailing`` and ``skipping`` spacing, and where enough of them lie under the strength, the steps are chosen
            among them; ``skipping`` takes ``usual_grid`` where there is none.
        from_noise: the run begins with noise alone: whatever the strength and the spacing, its first step is at the end
            of the schedule, where there is (nearly) no signal, or at the end of the ``grid``.
        groups: how many steps each group of a singlestep solver has, ``steps`` - 1 in all. In ``logsnr`` spacing the
            groups are of one length, and the steps even within each, which is the "fast" grid of DPM-Solver's authors;
            by default every step is a group.

    Raises:
        ValueError: the spacing is not known.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"the spacing is {spacing!r}; it must be one of {', '.join(SPACINGS)}")
    size, strength = len(schedule), 1.0 if from_noise else strength
    highest = _highest(size, steps + 1, strength)
    if spacing in ("karras", "logsnr"):
        shares = _shares(steps, groups if spacing == "logsnr" else None)
        return schedule.at_ratios(_spaced_ratios(schedule, spacing, highest, shares))
    if spacing in ("time-uniform", "time-quadratic"):
        power = 1 if spacing == "time-uniform" else 2
        return schedule.levels(torch.linspace(highest ** (1 / power), 1, steps, dtype=torch.float64) ** power / size)
    if spacing == "skipping" and grid is None:
        grid = usual_grid(schedule)
    if spacing == "linspace":
        counts = _even_with_end(highest, steps)
    elif spacing == "leading":
        counts = _leading(highest, steps, size if from_noise else None)
    elif grid is not None and steps <= int(grid * strength):
        choose = _skipping if spacing == "skipping" else _among
        counts = choose(int(grid * strength), steps) * (size // grid)
    else:
        counts = _trailing(_highest(size, steps, strength), steps)
    return schedule.levels((counts if schedule.continuous else counts.round()) / size)


def _highest(size: int, least: int, strength: float) -> int:
    """The count that is nearest to ``strength``; at least ``least``."""
    return min(max(round(strength * size), least), size)


def _trailing(highest: int, steps: int) -> torch.Tensor:
    """From ``highest`` on: the first step is exactly at the strength, which matters when there is one step only."""
    return highest - torch.arange(steps, dtype=torch.float64) * (highest / steps)


def _among(reached: int, steps: int) -> torch.Tensor:
    """``steps`` of the levels 1..``reached`` of a grid, as evenly as can be, as diffusers' ``LCMScheduler`` has it."""
    passed = torch.linspace(0, reached, steps + 1, dtype=torch.float64)[:-1].floor()
    return reached - passed


def _skipping(reached: int, steps: int) -> torch.Tensor:
    """``steps`` of the levels 1..``reached`` of a grid, so many apart that none is left out unevenly.

    What remains of the division is left at the low end, so that the last step is longer than the others.
    """
    return reached - torch.arange(steps, dtype=torch.float64) * (reached // steps)


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


def _shares(steps: int, groups: Sequence[int] | None) -> torch.Tensor:
    """(steps,) from 0 to 1: how far along the way each step lies, where all ``groups`` are of one length."""
    if not groups:
        return torch.linspace(0, 1, steps, dtype=torch.float64)
    begun = [number + place / size for number, size in enumerate(groups) for place in range(size)]
    return torch.tensor([*begun, len(groups)], dtype=torch.float64) / len(groups)


def _spaced_ratios(schedule: Schedule, spacing: str, highest: int, shares: torch.Tensor) -> torch.Tensor:
    """(T,) ``sigma / alpha`` from count ``highest`` down to count 1, both included."""
    most, below, least = schedule.ratios(torch.tensor([highest, highest - 1, 1], dtype=torch.float64) / len(schedule))
    # Where there is no signal the ratio is infinite, and nothing can be spaced from there.
    most = most if bool(most.isfinite()) else below
    if spacing == "karras":
        return (most ** (1 / _RHO)).lerp(least ** (1 / _RHO), shares) ** _RHO
    return most.log().lerp(least.log(), shares).exp()
