"""The DPM-Solver family as rows of coefficients (see ``pipeline/diffusion/solver.py`` for what the columns mean).

With ``lambda = log(alpha / sigma)`` and ``h`` its change over the step (or, singlestep, over the group), the family
integrates the noise prediction (DPM-Solver, arXiv 2206.00927) or the data prediction (DPM-Solver++, arXiv 2211.01095)
by Taylor expansion in lambda. *Multistep* solvers take the derivatives from the steps before, *singlestep* solvers from
the steps of their own group, and start each group from the latent at its beginning, the anchor ``a``. Every step is one
model call, so T steps are T calls for all of them.

The last step ends without noise, where lambda is infinite: it is of first order for every solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Row = dict[str, float]

# Below this many steps the orders descend at the end, which keeps long last steps stable (DPM-Solver++, section 4.3).
_FEW = 15


@dataclass(frozen=True, slots=True)
class Levels:
    """alpha and sigma at each of the T steps and, last, at the end: (T + 1,) float64 each.

    ``lower_order_final``: in a run of few steps, multistep orders descend towards the end.
    """

    alpha: torch.Tensor
    sigma: torch.Tensor
    lower_order_final: bool = True

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha) - 1

    def at(self, k: int) -> tuple[float, float, float]:
        """(alpha, sigma, lambda) at step ``k``; lambda is infinite at the end."""
        alpha, sigma = float(self.alpha[k]), float(self.sigma[k])
        return alpha, sigma, math.log(alpha / sigma) if sigma else math.inf


def first_order(levels: Levels, k: int) -> Row:
    """DDIM with eta = 0 (arXiv 2010.02502, eq. 12): DPM-Solver-1 and DPM-Solver++(1) are this same map."""
    alpha, sigma, _ = levels.at(k)
    next_alpha, next_sigma, _ = levels.at(k + 1)
    return {"a": next_sigma / sigma, "b": next_alpha - next_sigma / sigma * alpha}


def dpmpp_2m(levels: Levels) -> list[Row]:
    """DPM-Solver++(2M), algorithm 2."""
    return [_multistep(levels, k, 2) for k in range(levels.steps)]


def dpmpp_3m(levels: Levels) -> list[Row]:
    """DPM-Solver++(3M), appendix B, as its authors' code and diffusers have it."""
    return [_multistep(levels, k, 3) for k in range(levels.steps)]


def dpmpp_3m_taylor(levels: Levels) -> list[Row]:
    """The same with the whole second derivative.

    The divided difference that stands for it is half of it, so the term must be taken twice, as the singlestep solver
    of third order does. Without, the order is two, with, it is three: ``python -m tests.benchmarks.solvers``.
    """
    return [_multistep(levels, k, 3, curvature=2.0) for k in range(levels.steps)]


def _multistep(levels: Levels, k: int, highest: int, curvature: float = 1.0) -> Row:
    """Order ``highest``, less while there is no history yet, and towards the end of a run of few, long steps.

    ``curvature`` multiplies the term of the second derivative.
    """
    left = levels.steps - k
    descends = left == 1 or (levels.lower_order_final and levels.steps < _FEW)
    order = min(highest, k + 1, left if descends else highest)
    row = first_order(levels, k)
    if order == 1:
        return row
    (_, _, before), (_, _, here), (next_alpha, _, after) = (levels.at(k + offset) for offset in (-1, 0, 1))
    h = after - here
    r0 = (here - before) / h
    if order == 2:
        slope = row["b"] / (2 * r0)
        return {**row, "b": row["b"] + slope, "c": -slope}
    r1 = (before - levels.at(k - 2)[2]) / h
    first = next_alpha * (math.expm1(-h) / h + 1)
    second = curvature * next_alpha * ((math.expm1(-h) + h) / h**2 - 0.5)
    share = r0 / (r0 + r1)
    newer = (first * (1 + share) - second / (r0 + r1)) / r0  # weight of x0 - h1
    older = (second / (r0 + r1) - first * share) / r1  # weight of h1 - h2
    return {**row, "b": row["b"] + newer, "c": older - newer, "d": -older}


def dpmpp_2m_sde(levels: Levels) -> list[Row]:
    """SDE-DPM-Solver++(2M), section 5 and appendix D: the same with fresh noise at every step but the last."""
    rows = []
    for k in range(levels.steps):
        _, sigma, here = levels.at(k)
        next_alpha, next_sigma, after = levels.at(k + 1)
        h = after - here
        row = {
            "a": next_sigma / sigma * math.exp(-h),
            "b": -next_alpha * math.expm1(-2 * h),
            "f": next_sigma * math.sqrt(-math.expm1(-2 * h)),
        }
        if 0 < k < levels.steps - 1:
            slope = row["b"] / 2 * h / (here - levels.at(k - 1)[2])
            row |= {"b": row["b"] + slope, "c": -slope}
        rows.append(row)
    return rows


def dpmpp_2s(levels: Levels) -> list[Row]:
    """DPM-Solver++(2S), algorithm 1."""
    return _singlestep(levels, 2, _dpmpp_second)


def dpm_2(levels: Levels) -> list[Row]:
    """DPM-Solver-2, algorithm 1 of the first paper."""
    return _singlestep(levels, 2, _dpm_second)


def dpm_3(levels: Levels) -> list[Row]:
    """DPM-Solver-3, algorithm 2 of the first paper."""
    return _singlestep(levels, 3, _dpm_second, _dpm_third)


def group_starts(steps: int, order: int) -> list[int]:
    """For each step the one at which its singlestep group starts: full groups first, the last step on its own."""
    starts: list[int] = []
    while steps - len(starts) > order:
        starts += [len(starts)] * order
    left = steps - len(starts)
    starts += [len(starts)] * (left - 1)
    return [*starts, steps - 1]


def _singlestep(levels: Levels, order: int, *higher: Callable[[Levels, int, int], Row]) -> list[Row]:
    """Rows by place within the group: the first of first order, the others by ``higher``."""
    rows = []
    for k, start in enumerate(group_starts(levels.steps, order)):
        rows.append(higher[k - start - 1](levels, k, start) if k > start else first_order(levels, k))
    return rows


def _dpmpp_second(levels: Levels, k: int, start: int) -> Row:
    (_, sigma, begun), (_, _, here), (next_alpha, next_sigma, after) = (levels.at(n) for n in (start, k, k + 1))
    h = after - begun
    weight = -next_alpha * math.expm1(-h)
    slope = weight / 2 * h / (here - begun)
    return {"e": next_sigma / sigma, "b": slope, "c": weight - slope}


def _dpm_second(levels: Levels, k: int, start: int) -> Row:
    h = levels.at(k + 1)[2] - levels.at(start)[2]
    weight = levels.at(k + 1)[1] * math.expm1(h)
    return _noise_row(levels, k, start, weight, weight / 2, "c")


def _dpm_third(levels: Levels, k: int, start: int) -> Row:
    h = levels.at(k + 1)[2] - levels.at(start)[2]
    next_sigma = levels.at(k + 1)[1]
    weight = next_sigma * math.expm1(h)
    return _noise_row(levels, k, start, weight, next_sigma * (math.expm1(h) / h - 1), "d")


def _noise_row(levels: Levels, k: int, start: int, weight: float, curve: float, history: str) -> Row:
    """``alpha'/alpha_s a - weight eps_s - curve (eps_k - eps_s) / r``, with each noise as ``(x - alpha x0) / sigma``.

    ``history`` is the column that holds the data prediction of the group's start.
    """
    (begun_alpha, begun_sigma, begun), (alpha, sigma, here) = levels.at(start), levels.at(k)
    next_alpha, _, after = levels.at(k + 1)
    late = curve * (after - begun) / (here - begun)  # weight of the noise at step k
    early = weight - late
    return {
        "a": -late / sigma,
        "b": late * alpha / sigma,
        "e": next_alpha / begun_alpha - early / begun_sigma,
        history: early * begun_alpha / begun_sigma,
    }
