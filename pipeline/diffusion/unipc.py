"""UniPC, a predictor-corrector solver (arXiv 2302.04867), in its B2(h) form for data prediction.

The model is asked at the latent ``x`` that the predictor came to. Its answer then serves twice: it corrects the latent
at which it was asked (UniC, algorithm 1 of the paper), and from the corrected latent the predictor goes on (UniP,
algorithm 2). So a step takes one model call, as every other solver's. The corrected latent, from which the next
correction starts, is the anchor (``steps.py``): the model is never asked at it.

As in diffusers the orders rise from one at the beginning and fall to one at the end, and a correction has the order of
the prediction that it corrects.
"""

from __future__ import annotations

import math

import torch

from pipeline.diffusion.steps import TAKE_LATENT, Row, Run, Step, first_order

# Data predictions by age, from that of the step in hand on back.
_AGES = ("data", "previous", "older", "oldest")


def unipc_2(run: Run) -> list[Step]:
    """UniPC of second order."""
    return _unipc(run, 2)


def unipc_3(run: Run) -> list[Step]:
    """UniPC of third order."""
    return _unipc(run, 3)


def _unipc(run: Run, highest: int) -> list[Step]:
    orders = [_order(run, k, highest) for k in range(run.steps)]
    steps = [Step(_predicted(run, 0, orders[0]), TAKE_LATENT)]
    for k in range(1, run.steps):
        corrected = _corrected(run, k, orders[k - 1])
        steps.append(Step(_after(corrected, _predicted(run, k, orders[k])), corrected, anchor_step=k - 1))
    return steps


def _order(run: Run, k: int, highest: int) -> int:
    """Of the prediction at step ``k``."""
    left = run.steps - k
    falling = left if run.lower_order_final or left == 1 else highest
    return max(1, min(highest, falling, k + 1 - run.first_known()))


def _predicted(run: Run, k: int, order: int) -> Row:
    """The next latent from the corrected one, which stands in column ``x`` (UniP, eq. 3)."""
    row = dict(first_order(run, k))
    if order == 1:
        return row
    next_alpha, h = run.at(k + 1)[0], _step(run, k)
    distances = [(run.at(k - back)[2] - run.at(k)[2]) / h for back in range(1, order)]
    # Of second order the paper takes one half, to which the solution tends as h goes to 0.
    shares = [0.5] if order == 2 else _shares(distances, h)
    for back, (distance, share) in enumerate(zip(distances, shares, strict=True), start=1):
        weight = -next_alpha * math.expm1(-h) * share / distance
        row[_AGES[back]] = weight
        row["data"] -= weight
    return row


def _corrected(run: Run, k: int, order: int) -> Row:
    """The latent of step ``k`` from the corrected one of the step before, which is the anchor (UniC, eq. 8)."""
    before = first_order(run, k - 1)
    alpha, h = run.at(k)[0], _step(run, k - 1)
    distances = [(run.at(k - 1 - back)[2] - run.at(k - 1)[2]) / h for back in range(1, order)]
    shares = [0.5] if order == 1 else _shares([*distances, 1.0], h)
    row = {"anchor": before["x"], "previous": before["data"]}
    for age, distance, share in zip([*_AGES[2 : 1 + order], "data"], [*distances, 1.0], shares, strict=True):
        row[age] = -alpha * math.expm1(-h) * share / distance
        row["previous"] -= row[age]
    return row


def _step(run: Run, k: int) -> float:
    """The change of lambda over step ``k``."""
    return run.at(k + 1)[2] - run.at(k)[2]


def _shares(distances: list[float], h: float) -> list[float]:
    """How far each difference of data predictions counts, given how far back it reaches (eq. 5, with B(h) = e^-h - 1).

    They solve ``sum_m shares_m distances_m^(n-1) = n! phi_(n+1)(-h) (-h) / (e^-h - 1)`` for n = 1, 2, ...
    """
    step = -h
    phi, factorial, sides = math.expm1(step) / step - 1, 1, []
    for n in range(1, len(distances) + 1):
        sides.append(phi * factorial / math.expm1(step))
        factorial *= n + 1
        phi = phi / step - 1 / factorial
    reach = torch.tensor(distances, dtype=torch.float64)
    powers = torch.stack([reach**n for n in range(len(distances))])
    return torch.linalg.solve(powers, torch.tensor(sides, dtype=torch.float64)).tolist()


def _after(corrected: Row, predicted: Row) -> Row:
    """``predicted``, with what ``corrected`` makes of the state in the place of its latent."""
    row = {column: predicted["x"] * weight for column, weight in corrected.items()}
    for column, weight in predicted.items():
        if column != "x":
            row[column] = row.get(column, 0.0) + weight
    return row
