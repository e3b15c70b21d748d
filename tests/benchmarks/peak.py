"""How much of the device's matrix peak the networks reach, and where the rest goes.

``uv run python -m tests.benchmarks.peak`` multiplies large matrices to find the peak, counts the operations of UNet,
encoder and decoder, times each alone, and lists the kernels that take longest; writes ``results/peak-cpu.json``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from app.tensors import mark
from pipeline import Model, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.denoiser import Denoiser
from pipeline.device import DTYPES
from pipeline.models.networks import DecoderNetwork, EncoderNetwork
from tests.benchmarks import machine, material

_LISTED = 12


def wait_for_device(device: torch.device) -> None:
    """Return when ``device`` has done all that was asked of it."""
    done = mark(device)
    if done is not None:
        done()


def seconds_of(call: Callable[[], object], device: torch.device, runs: int = 15) -> float:
    """Median seconds of ``call``, everything waited for."""
    times = []
    for _ in range(runs + 3):
        started = time.perf_counter()
        call()
        wait_for_device(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device)


def networks(model: Model, backend: Backend, size: int, rows: int) -> dict[str, Callable[[], object]]:
    """Each network alone, on the backend, for ``rows`` rows of ``size`` pixels."""
    denoiser = Denoiser(model, backend)
    denoiser.set_prompts(material.PROMPT)
    side, layout = size // model.autoencoder.factor, ((0, rows),)
    noisy = torch.randn(rows, model.unet.config["in_channels"], side, side, device=model.device)
    timesteps = torch.full((rows,), 500, device=model.device)
    picture = {"pictures": torch.rand(1, 3, size, size, device=model.device)}
    clean = {"latents": torch.randn(1, model.autoencoder.latent_channels, side, side, device=model.device)}
    encoder, decoder = EncoderNetwork(model), DecoderNetwork(model)
    return {
        "encode": lambda: backend.run(encoder, picture, {}),
        "unet": lambda: denoiser(noisy, timesteps, layout),
        "decode": lambda: backend.run(decoder, clean, {}),
    }


def operations(call: Callable[[], object]) -> int:
    """Of convolutions, products and attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def slowest(call: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """The kernels (on a CPU the operators) that take longest, with their share of all."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as found:
        call()
        wait_for_device(device)
    events = found.key_averages()

    def own(event: Any) -> float:
        return event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total

    total = sum(map(own, events)) or 1.0
    top = sorted(events, key=own, reverse=True)[:_LISTED]
    return [{"name": e.key[:100], "share": round(own(e) / total, 3), "calls": e.count} for e in top]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plain", help="plain, sd-turbo or a folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--acceleration", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(str(material.model_folder(options.model, Path(folder) / "model")))
    backend, eager = accelerate(model, options.acceleration), EagerBackend(model)
    peak = matmul_peak(model.device, DTYPES[backend.numbers.partition(" ")[0]])
    results: dict[str, Any] = {
        "model": options.model,
        "size": options.size,
        "rows": options.rows,
        "acceleration": backend.name,
        "peak_tflops": round(peak / 1e12, 2),
    }
    plain = networks(model, eager, options.size, options.rows)
    counted = {name: operations(call) for name, call in plain.items()}
    quick = networks(model, backend, options.size, options.rows)
    for call in quick.values():
        call()
    backend.wait()
    for name, call in quick.items():
        seconds = seconds_of(call, model.device)
        results[name] = {
            "gflop": round(counted[name] / 1e9, 2),
            "ms": round(1e3 * seconds, 2),
            "share_of_peak": round(counted[name] / seconds / peak, 3),
        }
    results["eager_profile"] = {name: slowest(call, model.device) for name, call in plain.items()}
    backend.close()
    console = Console()
    console.print_json(data=results)
    console.print(f"written to {machine.save('peak', results)}")


if __name__ == "__main__":
    main()
