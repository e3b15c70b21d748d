"""Every solver is a table of coefficients; taking a step is one linear combination, the same for all of them.

With ``x`` the latent, ``x0`` this step's data prediction, ``h1`` and ``h2`` those of one and two steps back, ``a`` the
latent at the start of a singlestep group and ``n`` the noise of the next step::

    pred   = P x + Q output                              epsilon-, v- and sample-prediction differ in P and Q alone
    x0     = skip x + keep pred                          the boundary condition of consistency models; else 0 and 1
    x_next = A x + B x0 + C h1 + D h2 + E a + F n

The rows are computed once, in float64, from the noise schedule. Adding a solver is adding one function of about ten
lines to ``_SOLVERS``; nothing else in the engine knows which solver runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.diffusion.dpm_solver import (
    Levels,
    Row,
    dpm_2,
    dpm_3,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    dpmpp_3m,
    dpmpp_3m_taylor,
    first_order,
    group_starts,
)
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.diffusion.spacing import Ladder, space


@dataclass(frozen=True, slots=True)
class SolverTable:
    """One row for each of the T steps of a run. All columns are (T,) float64 tensors.

    Attributes:
        timesteps: (T,) int64, never increasing; what the model is told.
        alpha, sigma: the noise levels of the steps.
        p, q: from latent and model output to the data prediction.
        skip, keep: consistency boundary condition.
        a, b, c, d, e, f: weights of x, x0, h1, h2, the anchor and the noise in the next latent.
        renoises: the solver throws its noise away and draws new noise at each step (LCM).
        group_start: (T,) int64, for each step the step at which its singlestep group starts (itself for multistep).
    """

    timesteps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    p: torch.Tensor
    q: torch.Tensor
    skip: torch.Tensor
    keep: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    d: torch.Tensor
    e: torch.Tensor
    f: torch.Tensor
    renoises: bool
    group_start: torch.Tensor

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return len(self.timesteps)

    def uses(self, column: str) -> bool:
        """Whether any step has weight on this column (``c``: history, ``d``: older history, ``e``: anchor)."""
        return bool(getattr(self, column).any())


def plan(solver: str, schedule: NoiseSchedule, steps: int, strength: float, spacing: str = "trailing") -> SolverTable:
    """The table of ``solver`` for ``steps`` steps from ``strength`` (0..1] of the schedule down to no noise.

    Solvers of consistency models keep to the timesteps that these were distilled on, whatever the ``spacing``.
    """
    if solver in _GRID:
        ladder = Ladder.at(schedule, schedule.timesteps(steps, strength, _GRID[solver]))
    else:
        ladder = space(schedule, spacing, steps, strength)
    return build_table(solver, schedule, ladder)


def build_table(solver: str, schedule: NoiseSchedule, ladder: Ladder, *, lower_order_final: bool = True) -> SolverTable:
    """The coefficient table of ``solver`` down ``ladder`` and on to no noise.

    Args:
        lower_order_final: multistep solvers descend to first order at the end of a run of fewer than 15 steps, instead
            of in the very last step alone.

    Raises:
        ValueError: the solver is not known.
    """
    if solver not in _SOLVERS:
        raise ValueError(f"the solver is {solver!r}; it must be one of {', '.join(_SOLVERS)}")
    timesteps, alpha, sigma = ladder.timesteps, ladder.alpha, ladder.sigma
    ends = torch.cat([alpha, alpha.new_ones(1)]), torch.cat([sigma, sigma.new_zeros(1)])
    levels = Levels(*ends, lower_order_final)
    rows = _SOLVERS[solver](levels)
    columns = {name: torch.tensor([row.get(name, 0.0) for row in rows], dtype=torch.float64) for name in "abcdef"}
    p, q = data_prediction(schedule.prediction_type, alpha, sigma)
    skip, keep = torch.zeros_like(alpha), torch.ones_like(alpha)
    if solver in _CONSISTENCY:
        skip, keep = consistency_boundary(schedule, timesteps)
    starts = group_starts(len(timesteps), _GROUPED.get(solver, 1))
    return SolverTable(
        timesteps=timesteps[:1].expand_as(timesteps) if schedule.tells_start else timesteps,
        alpha=alpha,
        sigma=sigma,
        p=p,
        q=q,
        skip=skip,
        keep=keep,
        **columns,
        renoises=solver in _CONSISTENCY,
        group_start=torch.tensor(starts),
    )


def data_prediction(
    prediction_type: str, alpha: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(P, Q)`` with ``x0 = P x + Q output``, for each kind of model output (arXiv 2202.00512, section 4)."""
    if prediction_type == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction_type == "v_prediction":
        return alpha, -sigma
    return torch.zeros_like(alpha), torch.ones_like(alpha)


def consistency_boundary(schedule: NoiseSchedule, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(skip, keep)`` of consistency models, which make the identity of the map at t = 0 (arXiv 2310.04378, eq. 7)."""
    scaled = timesteps.double() * schedule.timestep_scaling
    variance = scaled**2 + schedule.sigma_data**2
    return schedule.sigma_data**2 / variance, scaled / variance.sqrt()


def _lcm(levels: Levels) -> list[Row]:
    """Multistep consistency sampling (arXiv 2310.04378, algorithm 3): predict the data, add new noise."""
    return [{"b": float(levels.alpha[k]), "f": float(levels.sigma[k])} for k in range(1, levels.steps + 1)]


def _ddim(levels: Levels) -> list[Row]:
    """DDIM. Euler's method in sigma / alpha is the same map once its latent is scaled back to unit variance."""
    return [first_order(levels, k) for k in range(levels.steps)]


_SOLVERS: dict[str, Callable[[Levels], list[Row]]] = {
    "lcm": _lcm,
    "ddim": _ddim,
    "euler": _ddim,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-3m": dpmpp_3m,
    "dpmpp-3m-taylor": dpmpp_3m_taylor,
    "dpmpp-2s": dpmpp_2s,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpm-2": dpm_2,
    "dpm-3": dpm_3,
}
_CONSISTENCY = frozenset({"lcm"})

# Steps of a singlestep group; one for all others.
_GROUPED = {"dpmpp-2s": 2, "dpm-2": 2, "dpm-3": 3}

# Consistency models are distilled on this many timesteps (LCM, section 4.3); others know them all.
_GRID = {"lcm": 50}
