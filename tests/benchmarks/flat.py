"""Whether memory comes back: LoRAs tried and taken off, models switched, backends opened and closed, ten times each.

``uv run python -m tests.benchmarks.flat`` prints the megabytes that the process holds after each round, and by how much
the last one is above the first. The embedded model on OpenVINO, where it is installed, with pictures of 256x256.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from rich.console import Console

from app.tensors import give_memory_back
from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from pipeline.backends.engine_cache import EngineCache
from tests.adapters import write_lora

CONFIG = StreamConfig(prompt="a watercolour painting", solver="ddim")


def held() -> float:
    """Megabytes of this process, with what is not in use given back."""
    gc.collect()
    give_memory_back()
    return psutil.Process().memory_info().rss / 2**20


def streamed(model: Model, backend: Backend, config: StreamConfig = CONFIG) -> None:
    """A few pictures, by engines that are built."""
    stream = Stream(model, config, backend)
    frame = torch.rand(3, 256, 256)
    for _ in range(2):
        stream(frame)
        backend.wait()
    stream(frame)
    stream.close()


def loras(folder: Path, cache: EngineCache, rounds: int) -> Callable[[int], None]:
    """Round n tries the n-th of as many LoRAs, and takes it off."""
    model = load_model()
    backend = accelerate(model, "auto", cache)
    for number in range(rounds):
        write_lora(folder / f"{number}.safetensors", model, "kohya", seed=number)

    def one(number: int) -> None:
        streamed(model, backend, replace(CONFIG, loras=str(folder / f"{number}.safetensors")))
        streamed(model, backend)

    return one


def models(cache: EngineCache) -> Callable[[int], None]:
    """Each round loads the model, streams and lets it go."""

    def one(_: int) -> None:
        model = load_model()
        backend = accelerate(model, "auto", cache)
        streamed(model, backend)
        backend.close()

    return one


def backends(cache: EngineCache) -> Callable[[int], None]:
    """Each round opens two backends on one model in turn, streams and closes them."""
    model = load_model()

    def one(_: int) -> None:
        for wanted in ("auto", "eager"):
            backend = accelerate(model, wanted, cache)
            streamed(model, backend)
            backend.close()

    return one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = EngineCache(folder / "engines")
        trials = {
            "LoRAs": lambda: loras(folder, cache, options.rounds),
            "models": lambda: models(cache),
            "backends": lambda: backends(cache),
        }
        for what, begin in trials.items():
            one, readings = begin(), []
            for number in range(options.rounds):
                one(number)
                readings.append(held())
            shown = " ".join(f"{megabytes:.0f}" for megabytes in readings)
            console.print(f"{what}: {shown} MB; last above first: {readings[-1] - readings[0]:+.1f} MB")
            del one


if __name__ == "__main__":
    main()
