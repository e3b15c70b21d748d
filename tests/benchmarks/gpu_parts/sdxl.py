"""SDXL's UNet alone: how long one row of 512x512 takes.

It has its 2.6 billion weights drawn on the device. Of the rest of the model only the widths are SDXL's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch

from pipeline import Model, load_model
from pipeline.backends import AccelerationError, accelerate
from pipeline.models.deferred import Deferred
from pipeline.models.kept_prompts import Projection
from tests.benchmarks import material
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.benchmarks.measure import in_turns, timed
from tests.benchmarks.peak import networks, wait_for_device

WIDE = {
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "sample_size": 128,
}


def model_of(job: Job) -> Model:
    """SDXL; in a tiny run as narrow as the model is on disk."""
    model = load_model(job.narrow_sdxl)
    config = {name: value for name, value in model.unet.config.items() if not name.startswith("_")}
    unet = material.random_unet({**config, **({} if job.tiny else WIDE)}, model.device, model.dtype)
    unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    modules = replace(model.modules.get(), unet=unet)  # pyright: ignore[reportArgumentType]
    return replace(model, modules=Deferred.of(modules), projection=Projection(model.residency, lambda: unet, None))


@torch.inference_mode()
def measure(job: Job, results: Results) -> None:
    """The quickly built ones first; then once more in turns with what takes longer to build."""
    model = model_of(job)
    calls: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for name in ("eager", "cuda-graphs", job.acceleration or "auto"):
            try:
                backend = accelerate(model, name)
            except AccelerationError as error:
                results[name] = {"error": str(error)}
                continue
            stack.callback(backend.close)
            calls[name] = networks(model, backend, job.size(), rows=1)["unet"]
            live.settled(backend, calls[name])
            for one, seconds in _in_turns(model, calls, job).items():
                results[one] = {"ms": live.median_ms(seconds)}


def _in_turns(model: Model, calls: dict[str, Callable[[], object]], job: Job) -> dict[str, list[float]]:
    def waited_for(call: Callable[[], object]) -> Callable[[int], object]:
        return lambda _: (call(), wait_for_device(model.device))

    contestants = {name: timed(waited_for(call)) for name, call in calls.items()}
    return in_turns(contestants, job.count(4), job.count(10), warm_up=job.count(4))


@torch.inference_mode()
def compiled(job: Job) -> None:
    """Build what ``measure`` waits for."""
    model = model_of(job)
    backend = accelerate(model, job.acceleration or "auto")
    live.settled(backend, networks(model, backend, job.size(), rows=1)["unet"])
    backend.close()
