"""Every solver is a table of coefficients; taking a step is a linear combination, the same for all of them.

With ``x`` the latent and ``data`` this step's data prediction::

    predicted = P x + Q output                    what the model's output means differs in P and Q alone
    data      = skip x + keep predicted           the boundary condition of consistency models; else 0 and 1
    state'    = M state                           two rows: the next latent and the next anchor

where the state is made of the columns of ``steps.py``: the latent, this data prediction, those of the steps before, the
anchor and the noise. The rows are computed once, in float64, from the noise schedule. Adding a solver is adding one
function to ``_SOLVERS``; nothing else in the engine knows which solver runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.diffusion.consistency import lcm, tcd
from pipeline.diffusion.dpm_solver import (
    dpm_2,
    dpm_2m,
    dpm_3,
    dpm_3m,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    dpmpp_3m,
    dpmpp_3m_taylor,
    dpmpp_3s,
    group_orders,
)
from pipeline.diffusion.schedule import Levels, Schedule
from pipeline.diffusion.spacing import space, usual_grid
from pipeline.diffusion.steps import COLUMNS, Row, Run, Step, first_order
from pipeline.diffusion.unipc import unipc_2, unipc_3


@dataclass(frozen=True, slots=True)
class SolverTable:
    """The coefficients of the T steps of a run. All columns are (T,) float64 tensors.

    Attributes:
        timesteps: (T,) what the model is told; never increasing, and between two timesteps in some spacings.
        alpha, sigma: the noise levels of the steps.
        p, q: from latent and model output to the data prediction.
        skip, keep: consistency boundary condition.
        latent: the row of the next latent, by column; a column without any weight is left out.
        anchor: the row of the next anchor, likewise; empty of a solver that has none.
        anchor_step: (T,) int64, at which step's noise level the anchor lies that each step finds.
        renoises: the solver throws its noise away and draws new noise at each step (LCM, TCD).
    """

    timesteps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    p: torch.Tensor
    q: torch.Tensor
    skip: torch.Tensor
    keep: torch.Tensor
    latent: Mapping[str, torch.Tensor]
    anchor: Mapping[str, torch.Tensor]
    anchor_step: torch.Tensor
    renoises: bool

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return len(self.timesteps)

    def uses(self, column: str) -> bool:
        """Whether any step has weight on this column."""
        return column in self.latent or column in self.anchor


def plan(
    solver: str,
    schedule: Schedule,
    steps: int,
    strength: float,
    spacing: str = "trailing",
    *,
    grid: int | None = None,
    gamma: float = 0.3,
    from_noise: bool = False,
) -> SolverTable:
    """The table of ``solver`` for ``steps`` steps from ``strength`` (0..1] of the schedule down to no noise.

    Args:
        grid: number of evenly spaced levels that a distilled model was trained on, None where it knows them all
            (see ``spacing.space``). Solvers of consistency models keep to it, in ``trailing`` spacing or ``skipping``
            whatever is asked for; theirs is ``usual_grid`` where nothing else is known.
        gamma: 0..1, how much of its noise a stochastic consistency solver (``tcd``) replaces at each step.
        from_noise: pictures are made of noise alone: the run begins at the end of the schedule (see ``space``).

    Raises:
        ValueError: the solver or the spacing is not known, or the grid is not one of this schedule.
    """
    if grid is not None and not 1 <= grid <= len(schedule):
        raise ValueError(f"the model's grid has {grid} timesteps; it must be between 1 and {len(schedule)}")
    if solver in _DISTILLED:
        spacing, grid = spacing if spacing == "skipping" else "trailing", grid or usual_grid(schedule)
    groups = group_orders(steps - 1, _SINGLESTEP[solver]) if solver in _SINGLESTEP else None
    levels = space(schedule, spacing, steps, strength, grid=grid, from_noise=from_noise, groups=groups)
    return build_table(solver, schedule, levels, gamma=gamma)


def plan_at(solver: str, schedule: Schedule, timesteps: Sequence[int], *, gamma: float = 0.3) -> SolverTable:
    """The table of ``solver`` for steps at these timesteps, each one of ``schedule.timesteps``.

    Raises:
        ValueError: the solver is not known, or the timesteps do not fall.
    """
    return build_table(solver, schedule, schedule.told(timesteps), gamma=gamma)


def build_table(
    solver: str, schedule: Schedule, levels: Levels, *, lower_order_final: bool = True, gamma: float = 0.3
) -> SolverTable:
    """The coefficient table of ``solver`` down ``levels`` of the ``schedule`` and on to no noise.

    Args:
        lower_order_final, gamma: see ``steps.Run``.

    Raises:
        ValueError: the solver is not known, there is no step, or the noise does not decrease.
    """
    if solver not in _SOLVERS:
        raise ValueError(f"the solver is {solver!r}; it must be one of {', '.join(_SOLVERS)}")
    timesteps, alpha, sigma = levels.timesteps, levels.alpha, levels.sigma
    if len(timesteps) == 0 or bool((sigma.diff() >= 0).any()):
        raise ValueError(f"the timesteps are {timesteps.tolist()}; the noise must decrease from each to the next")
    steps = _SOLVERS[solver](Run(levels, schedule, lower_order_final, gamma))
    latent = _columns([step.latent for step in steps])
    p, q = schedule.data_prediction(alpha, sigma)
    skip, keep = torch.zeros_like(alpha), torch.ones_like(alpha)
    if solver == "lcm":
        skip, keep = schedule.consistency_boundary(levels)
    return SolverTable(
        timesteps=timesteps[:1].expand_as(timesteps) if schedule.tells_start else timesteps,
        alpha=alpha,
        sigma=sigma,
        p=p,
        q=q,
        skip=skip,
        keep=keep,
        latent=latent,
        # A short run may come to its end before anything looks at its anchor.
        anchor=_columns([step.anchor for step in steps]) if "anchor" in latent else {},
        anchor_step=torch.tensor([k if step.anchor_step is None else step.anchor_step for k, step in enumerate(steps)]),
        renoises=solver in _DISTILLED and (solver != "tcd" or gamma > 0),
    )


def _columns(rows: list[Row]) -> dict[str, torch.Tensor]:
    """(T,) float64 weights of each column that has any."""
    columns = {name: torch.tensor([row.get(name, 0.0) for row in rows], dtype=torch.float64) for name in COLUMNS}
    return {name: weights for name, weights in columns.items() if bool(weights.any())}


def _ddim(run: Run) -> list[Step]:
    """DDIM. Euler's method in sigma / alpha is the same map once its latent is scaled back to unit variance."""
    return [Step(first_order(run, k)) for k in range(run.steps)]


_SOLVERS: dict[str, Callable[[Run], list[Step]]] = {
    "lcm": lcm,
    "ddim": _ddim,
    "euler": _ddim,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-3m": dpmpp_3m,
    "dpmpp-3m-taylor": dpmpp_3m_taylor,
    "dpmpp-2s": dpmpp_2s,
    "dpmpp-3s": dpmpp_3s,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpm-2m": dpm_2m,
    "dpm-3m": dpm_3m,
    "dpm-2": dpm_2,
    "dpm-3": dpm_3,
    "tcd": tcd,
    "unipc-2": unipc_2,
    "unipc-3": unipc_3,
}
# The order of those that work in groups of steps.
_SINGLESTEP = {"dpmpp-2s": 2, "dpmpp-3s": 3, "dpm-2": 2, "dpm-3": 3}
# Of models that were distilled on few timesteps and know no others.
_DISTILLED = frozenset({"lcm", "tcd"})
