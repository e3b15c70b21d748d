"""Streams that compute only what changed, as ``--sparse`` gives them, beside dense ones on the same backend."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline import load_model
from pipeline.backends import accelerate
from tests.benchmarks import sparse
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results

AREAS = (0.012, 0.05, 0.25)
# Steps and side. To compile for the last one would take longer than all else here, and it is bound by arithmetic.
CASES = ((1, 512, "auto"), (4, 512, "auto"), (1, 1024, "cuda-graphs"))


def measure(job: Job, results: Results) -> None:
    """A square of the picture changes in every frame."""
    model = load_model(job.model)
    rounds, warm_up, frames = (1, 1, 6) if job.tiny else (3, 2, 12)
    options = argparse.Namespace(ways=["sparse"], rounds=rounds, warm_up=warm_up, burst=8)
    for steps, size, acceleration in CASES:
        on_device = acceleration if model.device.type == "cuda" else "auto"
        backend = accelerate(model, job.acceleration or on_device)
        found = results.part(f"T{steps} {size}")
        for area in AREAS:
            clip = sparse.changing("square", area, job.size(size), frames)
            found[f"{100 * area:g} %"] = _told(sparse.compare(model, backend, live.config_of(steps), clip, options))
            found["acceleration"] = backend.name
            results.save()
        backend.close()


def _told(compared: dict[str, Any]) -> dict[str, Any]:
    """What is wanted of a comparison: times, ratio, and the share of the picture that each network computed."""
    dense, found = compared["dense"], compared["sparse"]
    computed = found.get("computed", {})
    return {
        "dense_ms": dense["p50_ms"],
        "sparse_ms": found["p50_ms"],
        "ratio": found["speed"]["median"],
        "windows": any(share < 1 for share in computed.values()),
        "computed": computed,
        "psnr": found["psnr"]["least"],
    }
