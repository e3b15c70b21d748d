"""What the engine's own ideas are worth, each against what it replaces, in turns.

``uv run python -m tests.benchmarks.engine`` measures guidance (none, self-negative, onetime-negative, full), residual
guidance against full guidance in the UNet alone, Stream Batch against one step after the other, and the similarity
filter: the calls that it spares by count, and seconds and joules on a clip that is still half the time. It writes
``results/engine-cpu.json`` (or ``-cuda``). With ``--model`` it does so on any model, with ``--size`` at any size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from tests.benchmarks import machine, material, rcfg, similar
from tests.benchmarks.measure import Contestant, in_turns, timed

BASE = StreamConfig(prompt=material.PROMPT, negative_prompt="a photo", strength=0.6, guidance_scale=1.4)
KINDS = ("none", "self-negative", "onetime-negative", "full")
# Frames; SSF is measured on as many that move as do not.
CLIP = 120
FILTERED_STEPS = (1, 4)
RCFG_ROUNDS = 15


@dataclass(frozen=True)
class Subject:
    """What is measured: a model, on a backend."""

    model: Model
    backend: Backend

    def stream(self, config: StreamConfig) -> Stream:
        """A new one."""
        return Stream(self.model, config, self.backend)


def streaming(subject: Subject, stream: Stream, clip: torch.Tensor) -> Contestant:
    """A stream of ``clip`` (N, 3, H, W), its engines built."""

    def call(count: int) -> torch.Tensor:
        return stream(clip[count % len(clip)]).image.cpu()

    for count in range(3):
        call(count)
    subject.backend.wait()
    stream.restart_clock()
    return timed(call)


def sequential(subject: Subject, config: StreamConfig, clip: torch.Tensor) -> Contestant:
    """The same pictures without Stream Batch: every frame takes all its steps before the next comes in.

    On a backend of its own that answers each step by an engine for one row. A stream would put it among the rows of
    its tick, whose engine it has anyway.
    """
    backend = accelerate(subject.model, subject.backend.name)
    backend.capabilities = replace(backend.capabilities, splits_rows=True)
    stream = Stream(subject.model, config, backend)

    def call(count: int) -> torch.Tensor:
        stream.reset()
        return stream(clip[count % len(clip)]).image.cpu()

    for count in range(3):
        call(count)
    backend.wait()
    return timed(call)


def guidance(subject: Subject, clip: torch.Tensor, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """What each kind of guidance costs at ``steps`` steps.

    Full guidance has twice the rows of self-negative. At best it takes twice the time of the UNet, and 1 plus the share
    of the UNet in the time of all (``unet_share``).
    """
    streams = {kind: subject.stream(replace(BASE, steps=steps, guidance=kind)) for kind in KINDS}
    contestants = {kind: streaming(subject, stream, clip) for kind, stream in streams.items()}
    ms = medians(in_turns(contestants, options.rounds, options.frames))
    stages = {kind: stream.stages_ms() for kind, stream in streams.items()}
    unet = {kind: one["unet"] for kind, one in stages.items()}
    return {
        "steps": steps,
        "ms": ms,
        "unet_ms": {kind: round(one, 2) for kind, one in unet.items()},
        "self_negative_over_none": round(ms["self-negative"] / ms["none"], 3),
        "full_over_self_negative": round(ms["full"] / ms["self-negative"], 3),
        "full_over_self_negative_in_unet": round(unet["full"] / unet["self-negative"], 3),
        "unet_share": round(unet["self-negative"] / sum(stages["self-negative"].values()), 3),
    }


def batching(subject: Subject, clip: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """Stream Batch against sequential denoising, four steps."""
    config = replace(BASE, steps=4)
    batch = streaming(subject, subject.stream(config), clip)
    contestants = {"stream batch": batch, "sequential": sequential(subject, config, clip)}
    ms = medians(in_turns(contestants, options.rounds, options.frames))
    return {"steps": 4, "ms": ms, "sequential_over_batch": round(ms["sequential"] / ms["stream batch"], 3)}


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds."""
    return {name: round(1e3 * statistics.median(times), 2) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plain", help="plain (the embedded shape), sd-turbo or a folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--acceleration", default="auto")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5], help="at which guidance is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=6, help="frames a turn")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        spec = str(material.model_folder(options.model, Path(folder) / "model"))
        model = load_model(spec)
        exact = load_model(spec, dtype="float32") if model.device.type == "cpu" else model
    subject = Subject(model, accelerate(model, options.acceleration))
    clip = material.to_tensor(material.frames(CLIP, options.size))
    results: dict[str, Any] = {
        "model": options.model,
        "size": options.size,
        "acceleration": subject.backend.name,
        "dtype": subject.backend.numbers,
        "guidance": [guidance(subject, clip, steps, options) for steps in options.steps],
        "rcfg": rcfg.full_over_self_negative(exact, replace(BASE, steps=5), clip, RCFG_ROUNDS),
        "stream_batch": batching(subject, clip, options),
        "similarity_filter": {
            "calls_left_out": similar.spared_calls(),
            "clip": [
                similar.on_a_clip(model, subject.backend, replace(BASE, steps=steps), clip) for steps in FILTERED_STEPS
            ],
        },
    }
    subject.backend.close()
    console.print_json(data=results)
    console.print(f"written to {machine.save('engine', results)}")


if __name__ == "__main__":
    main()
