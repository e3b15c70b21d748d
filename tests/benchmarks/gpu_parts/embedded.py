"""The embedded model at two sizes, once all is built."""

from __future__ import annotations

from pipeline import load_model
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.benchmarks.measure import in_turns

SIZES = (512, 256)


def measure(job: Job, results: Results) -> None:
    """One step."""
    model = load_model(job.embedded)
    for size in SIZES:
        backend, player = live.built(model, job.acceleration or "auto", live.config_of(1), live.clip_of(job.size(size)))
        contestants = {"pipelined": player.pipelined, "waiting": player.waiting}
        seconds = in_turns(contestants, job.count(3), job.count(60), warm_up=job.count(10))
        results[str(size)] = live.figures(seconds["pipelined"], seconds["waiting"], player.latencies) | {
            "acceleration": backend.name,
            "news": backend.news(),
        }
        backend.close()


def compiled(job: Job) -> None:
    """Build what ``measure`` waits for."""
    model = load_model(job.embedded)
    for size in SIZES:
        live.built(model, job.acceleration or "auto", live.config_of(1), live.clip_of(job.size(size)))[0].close()
