"""Makes the models that all parts share, and has Inductor compile what is not timed while it is compiled.

It runs beside the tests, which are not timed either. The parts that come later find compiled kernels on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from tests.benchmarks import material
from tests.benchmarks.gpu_parts import embedded, sdxl, speed
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.checkpoints import write_model
from tests.tiny_model import write_tiny_model

# What is compiled, by a name for it, and the part that would wait for it; all at once but for the last, which takes
# longest and is most easily done without.
_COMPILED: dict[str, tuple[str, Callable[[Job], None]]] = {
    "T1": ("speed", partial(speed.compiled, steps=1)),
    "T4": ("speed", partial(speed.compiled, steps=4)),
    "embedded": ("embedded", embedded.compiled),
    "sdxl": ("sdxl", sdxl.compiled),
}


def measure(job: Job, results: Results) -> None:
    """Write the models, then compile; what is not done when the tests are, the parts do themselves."""
    write_models(job)
    results["models_s"] = round(time.perf_counter() - job.started, 2)
    if not (torch.cuda.is_available() or job.tiny):
        return

    def compiled(name: str) -> None:
        began = time.perf_counter()
        _COMPILED[name][1](job)
        results[f"{name}_s"] = round(time.perf_counter() - began, 2)

    *together, last = (name for name, (part, _) in _COMPILED.items() if part in job.parts)
    with ThreadPoolExecutor() as pool:
        list(pool.map(compiled, together))
    compiled(last)


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
