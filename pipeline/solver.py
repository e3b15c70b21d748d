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
from dataclasses import dataclass, field

import torch

from pipeline.schedule import NoiseSchedule


@dataclass(frozen=True, slots=True)
class SolverTable:
    """One row for each of the T steps of a run. All columns are (T,) float64 tensors.

    Attributes:
        timesteps: (T,) int64, decreasing; what the model is told.
        alpha, sigma: of the noise schedule at those timesteps.
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
    renoises: bool = False
    group_start: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return len(self.timesteps)

    def uses(self, column: str) -> bool:
        """Whether any step has weight on this column (``c``: history, ``d``: older history, ``e``: anchor)."""
        return bool(getattr(self, column).any())


@dataclass(frozen=True, slots=True)
class _Levels:
    """(alpha, sigma) at each step and at the one after it, and half the log signal-to-noise ratio, all (T,)."""

    timesteps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    next_alpha: torch.Tensor
    next_sigma: torch.Tensor

    @property
    def log_snr(self) -> torch.Tensor:
        """lambda = log(alpha / sigma) of each step (DPM-Solver, section 3)."""
        return (self.alpha / self.sigma).log()

    @property
    def log_snr_step(self) -> torch.Tensor:
        """h = lambda_next - lambda; infinite at the last step, where the noise ends."""
        return (self.next_alpha / self.next_sigma).log() - self.log_snr


def plan(solver: str, schedule: NoiseSchedule, steps: int, strength: float) -> SolverTable:
    """The table of ``solver`` for ``steps`` steps from ``strength`` (0..1] of the schedule down to no noise."""
    return build_table(solver, schedule, schedule.timesteps(steps, strength, _GRID.get(solver)))


def build_table(solver: str, schedule: NoiseSchedule, timesteps: torch.Tensor) -> SolverTable:
    """The coefficient table of ``solver`` along ``timesteps`` ((T,) int64, strictly decreasing), ending noise-free.

    Raises:
        ValueError: the solver is not known, or the timesteps do not decrease.
    """
    if solver not in _SOLVERS:
        raise ValueError(f"the solver is {solver!r}; it must be one of {', '.join(_SOLVERS)}")
    if len(timesteps) == 0 or bool((timesteps.diff() >= 0).any()):
        raise ValueError(f"the timesteps are {timesteps.tolist()}; they must decrease strictly")
    alpha, sigma = schedule.alpha_sigma(timesteps)
    one, zero = alpha.new_ones(1), alpha.new_zeros(1)
    levels = _Levels(timesteps, alpha, sigma, torch.cat([alpha[1:], one]), torch.cat([sigma[1:], zero]))
    columns: dict[str, torch.Tensor] = {name: torch.zeros_like(alpha) for name in "abcdef"}
    columns["skip"], columns["keep"] = torch.zeros_like(alpha), torch.ones_like(alpha)
    columns["p"], columns["q"] = data_prediction(schedule.prediction_type, alpha, sigma)
    columns["group_start"] = torch.arange(len(timesteps))
    columns.update(_SOLVERS[solver](levels, schedule))
    return SolverTable(timesteps, alpha, sigma, renoises=solver in _RENOISING, **columns)


def data_prediction(
    prediction_type: str, alpha: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(P, Q)`` with ``x0 = P x + Q output``, for each kind of model output (arXiv 2202.00512, section 4)."""
    if prediction_type == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction_type == "v_prediction":
        return alpha, -sigma
    return torch.zeros_like(alpha), torch.ones_like(alpha)


def _lcm(levels: _Levels, schedule: NoiseSchedule) -> dict[str, torch.Tensor]:
    """Multistep consistency sampling (LCM, arXiv 2310.04378, algorithm 3): predict the data, add new noise."""
    scaled = levels.timesteps.double() * schedule.timestep_scaling
    variance = scaled**2 + schedule.sigma_data**2
    return {
        "skip": schedule.sigma_data**2 / variance,
        "keep": scaled / variance.sqrt(),
        "b": levels.next_alpha,
        "f": levels.next_sigma,
    }


def _ddim(levels: _Levels, schedule: NoiseSchedule) -> dict[str, torch.Tensor]:  # noqa: ARG001 - one signature
    """DDIM with eta = 0 (arXiv 2010.02502, eq. 12), which is DPM-Solver-1.

    Euler's method in sigma / alpha is the same map once its latent is scaled back to unit variance: both names share
    this row.
    """
    ratio = levels.next_sigma / levels.sigma
    return {"a": ratio, "b": levels.next_alpha - ratio * levels.alpha}


def _dpmpp_2m(levels: _Levels, schedule: NoiseSchedule) -> dict[str, torch.Tensor]:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

    The first and the last step are of first order: there is no history yet at the one, and at the other the step in
    lambda is infinite.
    """
    first_order = _ddim(levels, schedule)
    weight = first_order["b"]  # alpha_next (1 - exp(-h)), in the form that stays finite at the last step
    ratio = torch.zeros_like(weight)
    h = levels.log_snr_step
    ratio[1:-1] = h[1:-1] / h[:-2]  # 1 / r of the paper
    return {"a": first_order["a"], "b": weight * (1 + ratio / 2), "c": -weight * ratio / 2}


_SOLVERS: dict[str, Callable[[_Levels, NoiseSchedule], dict[str, torch.Tensor]]] = {
    "lcm": _lcm,
    "ddim": _ddim,
    "euler": _ddim,
    "dpmpp-2m": _dpmpp_2m,
}
_RENOISING = frozenset({"lcm"})

# Consistency models are distilled on this many timesteps (LCM, section 4.3); others know them all.
_GRID = {"lcm": 50}
