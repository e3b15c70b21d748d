"""What the engine's own ideas are worth, each against what it replaces, in turns.

``uv run python -m tests.benchmarks.engine`` measures guidance (none, self-negative, onetime-negative, full), Stream
Batch against one step after the other, and the similarity filter on a clip that is still half the time; and writes
``results/engine-cpu.json`` (or ``-cuda``). With ``--model`` it does so on any model, with ``--size`` at any size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from tests.benchmarks import machine, material
from tests.benchmarks.measure import Contestant, in_turns, timed

BASE = StreamConfig(prompt=material.PROMPT, negative_prompt="a photo", strength=0.6, guidance_scale=1.4)
KINDS = ("none", "self-negative", "onetime-negative", "full")
# Frames; SSF is measured on as many that move as do not, the still ones with the noise of a camera.
CLIP = 120


@dataclass(frozen=True)
class Subject:
    """What is measured: a model, on a backend."""

    model: Model
    backend: Backend

    def stream(self, config: StreamConfig) -> Stream:
        """A new one."""
        return Stream(self.model, config, self.backend)


def streaming(subject: Subject, config: StreamConfig, clip: torch.Tensor) -> Contestant:
    """A stream of ``clip`` (N, 3, H, W), its engines built."""
    stream = subject.stream(config)

    def call(count: int) -> torch.Tensor:
        return stream(clip[count % len(clip)]).image.cpu()

    for count in range(3):
        call(count)
    subject.backend.wait()
    return timed(call)


def sequential(subject: Subject, config: StreamConfig, clip: torch.Tensor) -> Contestant:
    """The same pictures without Stream Batch: every frame takes all its steps before the next comes in."""
    stream = subject.stream(config)

    def call(count: int) -> torch.Tensor:
        stream.reset()
        return stream(clip[count % len(clip)]).image.cpu()

    for count in range(3):
        call(count)
    subject.backend.wait()
    return timed(call)


def guidance(subject: Subject, clip: torch.Tensor, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """What each kind of guidance costs at ``steps`` steps."""
    streams = {kind: streaming(subject, replace(BASE, steps=steps, guidance=kind), clip) for kind in KINDS}
    ms = medians(in_turns(streams, options.rounds, options.frames))
    return {
        "steps": steps,
        "ms": ms,
        "self_negative_over_none": round(ms["self-negative"] / ms["none"], 3),
        "full_over_self_negative": round(ms["full"] / ms["self-negative"], 3),
    }


def batching(subject: Subject, clip: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """Stream Batch against sequential denoising, four steps."""
    config = replace(BASE, steps=4)
    contestants = {"stream batch": streaming(subject, config, clip), "sequential": sequential(subject, config, clip)}
    ms = medians(in_turns(contestants, options.rounds, options.frames))
    return {"steps": 4, "ms": ms, "sequential_over_batch": round(ms["sequential"] / ms["stream batch"], 3)}


def similarity(subject: Subject, clip: torch.Tensor) -> dict[str, Any]:
    """The share of the model's time that the filter saves on a clip that is still for its second half (eta 0.98)."""
    half = len(clip) // 2
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(half, *clip.shape[1:], generator=generator)
    mixed = torch.cat([clip[:half], (clip[half - 1 : half] + noise).clamp(0, 1)])
    seconds, skipped = {}, [0, 0]
    for filtered in (False, True):
        stream = subject.stream(replace(BASE, steps=1, similarity_filter=filtered, similarity_threshold=0.98))
        for frame in mixed[:3]:
            stream(frame)
        subject.backend.wait()
        stream.reset()
        started = time.perf_counter()
        for index, frame in enumerate(mixed):
            output = stream(frame)
            output.image.cpu()
            skipped[index >= half] += output.skipped
        seconds[filtered] = time.perf_counter() - started
    return {
        "moving": {"frames": half, "skipped": skipped[0]},
        "still": {"frames": len(mixed) - half, "skipped": skipped[1]},
        "seconds": {"without": round(seconds[False], 3), "with": round(seconds[True], 3)},
        "times_less": round(seconds[False] / seconds[True], 3),
    }


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
        spec = material.model_folder(options.model, Path(folder) / "model")
        model = load_model(str(spec))
    subject = Subject(model, accelerate(model, options.acceleration))
    clip = material.to_tensor(material.frames(CLIP, options.size))
    results: dict[str, Any] = {
        "model": options.model,
        "size": options.size,
        "acceleration": subject.backend.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "guidance": [guidance(subject, clip, steps, options) for steps in options.steps],
        "stream_batch": batching(subject, clip, options),
        "similarity_filter": similarity(subject, clip),
    }
    subject.backend.close()
    console.print_json(data=results)
    console.print(f"written to {machine.save('engine', results)}")


if __name__ == "__main__":
    main()
