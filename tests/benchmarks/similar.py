"""What the similarity filter spares: calls of the UNet by count, and time and energy on a clip."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from app.energy import EnergyMeter
from pipeline import Model, Stream, StreamConfig
from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.models.networks import DenoiserNetwork
from tests.alike import alike
from tests.pipeline.backends.calls import RecordingBackend
from tests.tiny_model import tiny_model

LIKELIHOODS, STEPS, CAP = (0.5, 0.75, 0.9, 1.0), (1, 2, 4), 10
THRESHOLD = 0.98


def spared_calls(count: int = 400) -> dict[str, Any]:
    """The share of UNet calls that is left out where every frame is skipped with the same probability.

    Calls are counted, so that any model will do. ``formula`` is what skipping alone would spare with the cap.
    """
    shares = {}
    for likelihood in LIKELIHOODS:
        skips = sum(likelihood**run for run in range(1, CAP + 1))  # on the average, after each frame that is kept
        shares[f"{likelihood:g}"] = {
            "formula": round(skips / (1 + skips), 3),
            **{f"T = {steps}": round(_spared(likelihood, steps, count), 3) for steps in STEPS},
        }
    return {"cap": CAP, "share_by_probability": shares}


def _spared(likelihood: float, steps: int, count: int) -> float:
    model = tiny_model()
    backend = RecordingBackend(EagerBackend(model))
    config = StreamConfig(steps=steps, similarity_filter=True, similarity_threshold=THRESHOLD, similarity_skip_cap=CAP)
    stream = Stream(model, config, backend)
    # At a probability of 1 the scene stands still.
    frames = alike(likelihood, 100, THRESHOLD) if likelihood < 1 else alike(0.5, 1)
    stream(frames[0])
    before = len(backend.shapes(DenoiserNetwork.name))
    for number in range(1, count + 1):
        stream(frames[number % len(frames)])
    return 1 - (len(backend.shapes(DenoiserNetwork.name)) - before) / count


def on_a_clip(model: Model, backend: Backend, config: StreamConfig, clip: torch.Tensor) -> dict[str, Any]:
    """Seconds, and where it can be read energy, without and with the filter on a clip whose second half stands still.

    Args:
        clip: (N, 3, H, W), moving; the still half has the noise of a camera.
    """
    half = len(clip) // 2
    noise = 0.01 * torch.randn(half, *clip.shape[1:], generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([clip[:half], (clip[half - 1 : half] + noise).clamp(0, 1)])
    seconds: dict[str, float] = {}
    joules: dict[str, float | None] = {}
    skipped, source = [0, 0], None
    for name, filtered in (("without", False), ("with", True)):
        stream = Stream(model, replace(config, similarity_filter=filtered, similarity_threshold=THRESHOLD), backend)
        for frame in mixed[:3]:
            stream(frame)
        backend.wait()
        stream.reset()
        meter, started = EnergyMeter(str(model.device)), time.perf_counter()
        for index, frame in enumerate(mixed):
            output = stream(frame)
            output.image.cpu()
            skipped[index >= half] += output.skipped
        seconds[name] = round(time.perf_counter() - started, 3)
        used, source = meter.joules(), meter.source
        joules[name] = None if used is None else round(used / len(mixed), 3)
    return {
        "steps": config.steps,
        "moving": {"frames": half, "skipped": skipped[0]},
        "still": {"frames": len(mixed) - half, "skipped": skipped[1]},
        "seconds": seconds,
        "times_less": round(seconds["without"] / seconds["with"], 3),
        "joules_a_frame": {**joules, "read_from": source or "this machine does not tell"},
    }
