"""Makes the models that all parts share, and has Inductor compile what is not timed while it is compiled.

It runs beside the tests, which are not timed either. The parts that come later find compiled kernels on disk.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from tests.benchmarks import material
from tests.benchmarks.gpu_parts import embedded, sdxl
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.checkpoints import write_model
from tests.tiny_model import write_tiny_model

# By the part that would wait for it.
_COMPILED = {"sdxl": sdxl.compiled, "embedded": embedded.compiled}


def measure(job: Job, results: Results) -> None:
    """Write the models, then compile; what is not done when the tests are, the parts do themselves."""
    write_models(job)
    results["models_s"] = round(time.perf_counter() - job.started, 2)
    if torch.cuda.is_available() or job.tiny:
        for part, compiled in _COMPILED.items():
            if part in job.parts:
                compiled(job)
                results[f"{part}_s"] = round(time.perf_counter() - job.started, 2)


def write_models(job: Job) -> None:
    """Those that any part of the job asks for."""
    if job.tiny:
        write_tiny_model(Path(job.model))
        write_model(Path(job.narrow_sdxl), "sdxl")
        return
    if {"speed", "guidance", "sparse", "peers"} & {*job.parts}:
        material.write_sd_turbo(Path(job.model))
    if "sdxl" in job.parts:
        write_model(Path(job.narrow_sdxl), "sdxl", text=(768, 1280))
