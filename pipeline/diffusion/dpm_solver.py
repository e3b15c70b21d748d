"""The DPM-Solver family as rows of coefficients (see ``steps.py`` for what the columns mean).

With ``lambda = log(alpha / sigma)`` and ``h`` its change over the step (or, singlestep, over the group), the family
integrates the noise prediction (DPM-Solver, arXiv 2206.00927) or the data prediction (DPM-Solver++, arXiv 2211.01095)
by Taylor expansion in lambda. *Multistep* solvers take the derivatives from the steps before, *singlestep* solvers from
the steps of their own group, and start each group from the latent at its beginning, the anchor. Every step is one model
call, so T steps are T calls for all of them.

The last step ends without noise, where lambda is infinite: it is of first order for every solver. A step from no signal
at all is so too, and what comes after does not look back at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.diffusion.steps import KEEP, TAKE_LATENT, Row, Run, Step, first_order

# Below this many steps the orders descend at the end, which keeps long last steps stable (DPM-Solver++, section 4.3).
_FEW = 15


def dpmpp_2m(run: Run) -> list[Step]:
    """DPM-Solver++(2M), algorithm 2."""
    return [Step(_multistep(run, k, 2)) for k in range(run.steps)]


def dpmpp_3m(run: Run) -> list[Step]:
    """DPM-Solver++(3M), appendix B, as its authors' code and diffusers have it."""
    return [Step(_multistep(run, k, 3)) for k in range(run.steps)]


def dpmpp_3m_taylor(run: Run) -> list[Step]:
    """The same with the whole second derivative.

    The divided difference that stands for it is half of it, so the term must be taken twice, as the singlestep solver
    of third order does. Without, the order is two, with, it is three: ``python -m tests.benchmarks.solvers``.
    """
    return [Step(_multistep(run, k, 3, curvature=2.0)) for k in range(run.steps)]


def _multistep(run: Run, k: int, highest: int, curvature: float = 1.0) -> Row:
    """Order ``highest``, less while there is no history yet, and towards the end of a run of few, long steps.

    ``curvature`` multiplies the term of the second derivative.
    """
    left = run.steps - k
    descends = left == 1 or (run.lower_order_final and run.steps < _FEW)
    order = min(highest, k + 1 - run.first_known(), left if descends else highest)
    row = first_order(run, k)
    if order <= 1:
        return row
    (_, _, before), (_, _, here), (next_alpha, _, after) = (run.at(k + offset) for offset in (-1, 0, 1))
    h = after - here
    r0 = (here - before) / h
    if order == 2:
        slope = row["data"] / (2 * r0)
        return {**row, "data": row["data"] + slope, "previous": -slope}
    r1 = (before - run.at(k - 2)[2]) / h
    first = next_alpha * (math.expm1(-h) / h + 1)
    second = curvature * next_alpha * ((math.expm1(-h) + h) / h**2 - 0.5)
    share = r0 / (r0 + r1)
    newer = (first * (1 + share) - second / (r0 + r1)) / r0  # weight of data - previous
    older = (second / (r0 + r1) - first * share) / r1  # weight of previous - older
    return {**row, "data": row["data"] + newer, "previous": older - newer, "older": -older}


def dpmpp_2m_sde(run: Run) -> list[Step]:
    """SDE-DPM-Solver++(2M), section 5 and appendix D: the same with fresh noise at every step but the last."""
    steps = []
    for k in range(run.steps):
        _, sigma, here = run.at(k)
        next_alpha, next_sigma, after = run.at(k + 1)
        h = after - here
        row = {
            "x": next_sigma / sigma * math.exp(-h),
            "data": -next_alpha * math.expm1(-2 * h),
            "noise": next_sigma * math.sqrt(-math.expm1(-2 * h)),
        }
        if run.first_known() < k < run.steps - 1:
            slope = row["data"] / 2 * h / (here - run.at(k - 1)[2])
            row |= {"data": row["data"] + slope, "previous": -slope}
        steps.append(Step(row))
    return steps


def dpmpp_2s(run: Run) -> list[Step]:
    """DPM-Solver++(2S), algorithm 1."""
    return _singlestep(run, 2, _dpmpp_second)


def dpm_2(run: Run) -> list[Step]:
    """DPM-Solver-2, algorithm 1 of the first paper."""
    return _singlestep(run, 2, _dpm_second)


def dpm_3(run: Run) -> list[Step]:
    """DPM-Solver-3, algorithm 2 of the first paper."""
    return _singlestep(run, 3, _dpm_second, _dpm_third)


def group_starts(steps: int, order: int) -> list[int]:
    """For each step the one at which its singlestep group starts: full groups first, the last step on its own."""
    starts: list[int] = []
    while steps - len(starts) > order:
        starts += [len(starts)] * order
    left = steps - len(starts)
    starts += [len(starts)] * (left - 1)
    return [*starts, steps - 1]


def _singlestep(run: Run, order: int, *higher: Callable[[Run, int, int], Row]) -> list[Step]:
    """Steps by place within the group: the first of first order, the others by ``higher``.

    A group keeps the latent that it starts from as its anchor; the first step makes it so.
    """
    alone = min(run.first_known(), run.steps - 1)  # steps that start without any signal, where no group can start
    starts = [*range(alone), *(alone + start for start in group_starts(run.steps - alone, order))]
    steps = []
    for k, start in enumerate(starts):
        goes_on = start in starts[k + 1 :]
        if k == start:
            steps.append(Step(first_order(run, k), TAKE_LATENT if goes_on else {}))
        else:
            steps.append(Step(higher[k - start - 1](run, k, start), KEEP if goes_on else {}, anchor_step=start))
    return steps


def _dpmpp_second(run: Run, k: int, start: int) -> Row:
    (_, sigma, begun), (_, _, here), (next_alpha, next_sigma, after) = (run.at(n) for n in (start, k, k + 1))
    h = after - begun
    weight = -next_alpha * math.expm1(-h)
    slope = weight / 2 * h / (here - begun)
    return {"anchor": next_sigma / sigma, "data": slope, "previous": weight - slope}


def _dpm_second(run: Run, k: int, start: int) -> Row:
    h = run.at(k + 1)[2] - run.at(start)[2]
    weight = run.at(k + 1)[1] * math.expm1(h)
    return _noise_row(run, k, start, weight, weight / 2, "previous")


def _dpm_third(run: Run, k: int, start: int) -> Row:
    h = run.at(k + 1)[2] - run.at(start)[2]
    next_sigma = run.at(k + 1)[1]
    weight = next_sigma * math.expm1(h)
    return _noise_row(run, k, start, weight, next_sigma * (math.expm1(h) / h - 1), "older")


def _noise_row(run: Run, k: int, start: int, weight: float, curve: float, history: str) -> Row:
    """``alpha'/alpha_s a - weight eps_s - curve (eps_k - eps_s) / r``, with each noise as ``(x - alpha x0) / sigma``.

    a is the anchor, and ``history`` the column that holds the data prediction of the group's start.
    """
    (begun_alpha, begun_sigma, begun), (alpha, sigma, here) = run.at(start), run.at(k)
    next_alpha, _, after = run.at(k + 1)
    late = curve * (after - begun) / (here - begun)  # weight of the noise at step k
    early = weight - late
    return {
        "x": -late / sigma,
        "data": late * alpha / sigma,
        "anchor": next_alpha / begun_alpha - early / begun_sigma,
        history: early * begun_alpha / begun_sigma,
    }
