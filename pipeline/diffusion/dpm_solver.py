"""The DPM-Solver family as rows of coefficients (see ``steps.py`` for what the columns mean).

With ``lambda = log(alpha / sigma)`` and ``h`` its change over the step (or, singlestep, over the group), the family
integrates the noise prediction (DPM-Solver, arXiv 2206.00927) or the data prediction (DPM-Solver++, arXiv 2211.01095)
by Taylor expansion in lambda. *Multistep* solvers take the derivatives from the steps before, *singlestep* solvers from
the steps of their own group, and start each group from the latent at its beginning, the anchor. Every step is one model
call, so T steps are T calls for all of them.

Both predictions have the same formulas, with ``z = h`` and ``s = sigma'`` for the noise, and ``z = -h`` and
``s = alpha'`` for the data. The prediction, its slope and half its curvature in lambda (in units of h) enter the next
latent by ``-s (e^z - 1)``, ``-s phi_2(z)`` and ``-s phi_3(z)``; those of second order take ``(e^z - 1) / 2`` for phi_2.

The last step ends without noise, where lambda is infinite: it is of first order for every solver, and is what the
authors' code calls ``denoise_to_zero``, after a run of T - 1. A step from no signal at all is of first order too, and
what comes after does not look back at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.diffusion.steps import KEEP, TAKE_LATENT, Row, Run, Step, first_order

# With fewer steps than this before the last one, the orders of multistep solvers descend towards it, which keeps long
# steps stable (DPM-Solver++, section 4.3; the number is that of its authors' code). Only runs that go down to the least
# noise, as theirs do, need it: where a run stops above, its last step is the longest, and of first order anyway.
_FEW = 10

# Which prediction a solver integrates: ``of_noise``.
_NOISE, _DATA = True, False

# Latent and data prediction of a step by how many steps back it is: what its noise prediction is found from.
_AGES = (("x", "data"), ("anchor", "previous"), ("earlier", "older"))


def dpmpp_2m(run: Run) -> list[Step]:
    """DPM-Solver++(2M), algorithm 2."""
    return [Step(_multistep(run, k, 2, _DATA)) for k in range(run.steps)]


def dpmpp_3m(run: Run) -> list[Step]:
    """DPM-Solver++(3M), appendix B, as its authors' code and diffusers have it.

    It converges at second order: the term of the second derivative is half of what third order asks for, and the first
    step is of first order (see ``dpmpp_3m_taylor``).
    """
    return [Step(_multistep(run, k, 3, _DATA)) for k in range(run.steps)]


def dpmpp_3m_taylor(run: Run) -> list[Step]:
    """The same, of third order: with the whole second derivative, and a start that is good enough for it.

    The divided difference that stands for the second derivative is half of it, so its term is taken twice. The first
    step can only be of first order, and its error would stay until the end; so the first two steps are a singlestep
    group, which starts over from the first latent once it knows the second data prediction.
    """
    steps = [Step(_multistep(run, k, 3, _DATA, curvature=2.0)) for k in range(run.steps)]
    first = run.first_known()
    if _order(run, first + 1, 2) == 2:
        steps[first] = Step(first_order(run, first), TAKE_LATENT)
        steps[first + 1] = Step(_in_group(run, first + 1, first, _DATA, _half), anchor_step=first)
    return steps


def dpm_2m(run: Run) -> list[Step]:
    """DPM-Solver of second order as a multistep solver, as its authors' code has it."""
    return _multistep_of_noise(run, 2)


def dpm_3m(run: Run) -> list[Step]:
    """The same with the term of third order; as with DPM-Solver++(3M), it converges at second order."""
    return _multistep_of_noise(run, 3)


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
    return _singlestep(run, 2, _DATA)


def dpmpp_3s(run: Run) -> list[Step]:
    """DPM-Solver++(3S): DPM-Solver-3 of data prediction, as the authors' code has it."""
    return _singlestep(run, 3, _DATA)


def dpm_2(run: Run) -> list[Step]:
    """DPM-Solver-2, algorithm 1 of the first paper."""
    return _singlestep(run, 2, _NOISE)


def dpm_3(run: Run) -> list[Step]:
    """DPM-Solver-3, algorithm 2 of the first paper."""
    return _singlestep(run, 3, _NOISE)


def group_orders(calls: int, order: int) -> list[int]:
    """The orders of a singlestep solver's groups over so many calls, each as long as its order.

    They are those of the authors' "fast" solver (DPM-Solver, appendix D): as many whole groups as leave room for lower
    orders at the end, of which third order has one at least. These weigh little where there is little noise left, but
    with ever more calls they bring third order down to second.
    """
    whole, left = divmod(calls, order)
    if order == 3 and calls and not left:
        return [3] * (whole - 1) + [2, 1]
    return [order] * whole + ([left] if left else [])


def _multistep_of_noise(run: Run, highest: int) -> list[Step]:
    """A noise prediction is found from latent and data prediction, so that the latents before are kept as anchors."""
    rows = [_multistep(run, k, highest, _NOISE) for k in range(run.steps)]
    return [Step(row, TAKE_LATENT, anchor_step=max(0, k - 1)) for k, row in enumerate(rows)]


def _order(run: Run, k: int, highest: int) -> int:
    """Of a multistep solver at step k: less than ``highest`` without history, and at the end of a run of few steps."""
    before_last = run.steps - 1
    descends = run.lower_order_final and before_last < _FEW and run.ends_low()
    left = before_last - k if descends else highest
    return max(1, min(highest, k + 1 - run.first_known(), left)) if k < before_last else 1


def _multistep(run: Run, k: int, highest: int, of_noise: bool, curvature: float = 1.0) -> Row:
    """Order ``highest`` or less; ``curvature`` multiplies the term of the second derivative."""
    order = _order(run, k, highest)
    if order == 1:
        return first_order(run, k)
    before, here, after = (run.at(k + offset)[2] for offset in (-1, 0, 1))
    h = after - here
    z, scale = _form(run, k, h, of_noise)
    r0 = (here - before) / h
    if order == 2:
        slope = -scale * _half(z) / r0
        weights = [-scale * math.expm1(z) + slope, -slope]
    else:
        r1 = (before - run.at(k - 2)[2]) / h
        first, second = -scale * _phi_2(z), -curvature * scale * _phi_3(z)
        share = r0 / (r0 + r1)
        newer = (first * (1 + share) + second / (r0 + r1)) / r0  # weight of this prediction less the one before
        older = -(first * share + second / (r0 + r1)) / r1  # weight of the one before less the one before that
        weights = [-scale * math.expm1(z) + newer, older - newer, -older]
    return _row(run, k, k, weights, [(k - back, *_AGES[back]) for back in range(order)], of_noise)


def _singlestep(run: Run, order: int, of_noise: bool) -> list[Step]:
    """Steps by their place within the group. A group keeps the latent that it starts from as its anchor."""
    alone = min(run.first_known(), run.steps - 1)  # steps that start without any signal, where no group can start
    steps = [Step(first_order(run, k)) for k in range(alone)]
    for size in [*group_orders(run.steps - alone - 1, order), 1]:
        start = len(steps)
        steps.append(Step(first_order(run, start), TAKE_LATENT if size > 1 else {}))
        for place in range(1, size):
            curve = _half if size == 2 else _phi_2
            row = _in_group(run, start + place, start, of_noise, curve)
            steps.append(Step(row, KEEP if place < size - 1 else {}, anchor_step=start))
    return steps


def _in_group(run: Run, k: int, start: int, of_noise: bool, curve: Callable[[float], float]) -> Row:
    """From the latent of step ``start`` to that of step k + 1, by the predictions of steps ``start`` and k."""
    begun, here, after = (run.at(n)[2] for n in (start, k, k + 1))
    h = after - begun
    z, scale = _form(run, k, h, of_noise)
    late = -scale * curve(z) * h / (here - begun)
    weights = [late, -scale * math.expm1(z) - late]
    history = _AGES[k - start][1]
    return _row(run, k, start, weights, [(k, *_AGES[0]), (start, "anchor", history)], of_noise)


def _form(run: Run, k: int, h: float, of_noise: bool) -> tuple[float, float]:
    """(z, s): what tells noise prediction and data prediction apart."""
    next_alpha, next_sigma, _ = run.at(k + 1)
    return (h, next_sigma) if of_noise else (-h, next_alpha)


def _row(
    run: Run, k: int, start: int, weights: Sequence[float], places: Sequence[tuple[int, str, str]], of_noise: bool
) -> Row:
    """The latent of step k + 1 from that of step ``start``.

    Args:
        weights: of the predictions.
        places: for each, its step, and the columns of that step's latent and data prediction.
    """
    (alpha, sigma, _), (next_alpha, next_sigma, _) = run.at(start), run.at(k + 1)
    latent = "x" if start == k else "anchor"
    row = dict.fromkeys([latent, *(column for _, *columns in places for column in columns)], 0.0)
    row[latent] = next_alpha / alpha if of_noise else next_sigma / sigma
    for weight, (step, x, data) in zip(weights, places, strict=True):
        if of_noise:  # (x - alpha x0) / sigma
            of_alpha, of_sigma, _ = run.at(step)
            row[x] += weight / of_sigma
            row[data] -= weight * of_alpha / of_sigma
        else:
            row[data] += weight
    return {column: weight for column, weight in row.items() if weight}


def _half(z: float) -> float:
    return math.expm1(z) / 2


def _phi_2(z: float) -> float:
    return math.expm1(z) / z - 1


def _phi_3(z: float) -> float:
    return _phi_2(z) / z - 0.5
