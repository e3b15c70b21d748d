"""Solvers of models that were distilled to jump far along the way to the data in one step."""

from __future__ import annotations

import math

from pipeline.diffusion.steps import Run, Step


def lcm(run: Run) -> list[Step]:
    """Multistep consistency sampling (arXiv 2310.04378, algorithm 3): predict the data, add new noise."""
    following = [run.at(k)[:2] for k in range(1, run.steps + 1)]
    return [Step({"data": alpha, "noise": sigma}) for alpha, sigma in following]


def tcd(run: Run) -> list[Step]:
    """Strategic stochastic sampling (TCD, arXiv 2402.19159, algorithm 4), as diffusers has it.

    Each step goes down beyond the next timestep t', to ``(1 - gamma) t'``, without noise, and comes back up to t' by
    adding some: at gamma = 0 the way is that of DDIM, at gamma = 1 all noise is new, as with LCM. The last step ends
    at the schedule's least noise, which is next to none.
    """
    steps, go_down = [], 1 - run.gamma
    for k in range(run.steps):
        alpha, sigma, _ = run.at(k)
        last = k + 1 == run.steps
        stop = run.schedule.below(run.levels[-1:], 0.0) if last else run.schedule.below(run.levels[k + 1 :], go_down)
        stop_alpha, stop_sigma = float(stop.alpha[0]), float(stop.sigma[0])
        next_alpha, next_sigma = (stop_alpha, stop_sigma) if last else run.at(k + 1)[:2]
        scale = next_alpha / stop_alpha
        row = {
            "x": scale * stop_sigma / sigma,
            "data": scale * (stop_alpha - stop_sigma * alpha / sigma),
            "noise": math.sqrt(max(0.0, next_sigma**2 - (scale * stop_sigma) ** 2)),
        }
        steps.append(Step(row))
    return steps
