"""One and four steps of Stable Diffusion Turbo's architecture: from the start, and once all is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import torch

from pipeline import Model, load_model
from pipeline.backends import AccelerationError
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.benchmarks.measure import in_turns

STEPS = (1, 4)
OTHERS = ("eager", "cuda-graphs")
# By the steps, seconds that are kept for what comes after all is built.
_KEPT = {1: 60.0, 4: 15.0}


def measure(job: Job, results: Results) -> None:
    """Everything at one step, then at four."""
    model, clip = load_model(job.model), live.clip_of(job.size())
    for steps in STEPS:
        found = results.part(f"T{steps}")
        for name, value in _measured(job, model, clip, steps, job.left - _KEPT[steps]):
            found[name] = value
            results.save()


def compiled(job: Job, steps: int) -> None:
    """Build what ``measure`` waits for."""
    model, clip = load_model(job.model), live.clip_of(job.size())
    live.built(model, job.acceleration or "auto", live.config_of(steps), clip)[0].close()


def _measured(job: Job, model: Model, clip: torch.Tensor, steps: int, patience: float) -> Iterator[tuple[str, object]]:
    """Names and values."""
    config = live.config_of(steps)
    with ExitStack() as stack:
        early = 0.3 if job.tiny else 3.0
        backend, player, facts = live.started(
            model, job.acceleration or "auto", config, clip, max(patience, early + 1), early
        )
        stack.callback(backend.close)
        yield "start", facts
        players = {"auto": player}
        for name in OTHERS:
            try:
                other, players[name] = live.built(model, name, config, clip)
            except AccelerationError as error:
                yield name, {"error": str(error)}
                continue
            stack.callback(other.close)
        contestants = {}
        for name, one in players.items():
            contestants |= {f"{name} pipelined": one.pipelined, f"{name} waiting": one.waiting}
        seconds = in_turns(contestants, job.count(4), job.count(25), warm_up=job.count(6))
        for name, one in players.items():
            yield name, live.figures(seconds[f"{name} pipelined"], seconds[f"{name} waiting"], one.latencies)
        yield "news", backend.news()
