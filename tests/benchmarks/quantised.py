"""What networks in eight bits are worth: the embedded model on OpenVINO with them and without, in turns.

``uv run python -m tests.benchmarks.quantised`` measures in bfloat16 (where OpenVINO takes it) and in float32,
which is what most laptops calculate in; and writes ``results/quantised-float32-cpu.json``
(``-bfloat16`` where both were measured): milliseconds a frame, medians, and how far the pictures are from those of
PyTorch in float32.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from tests.benchmarks import machine, material
from tests.benchmarks.measure import in_turns, timed

CONFIG = StreamConfig(prompt=material.PROMPT, steps=1)
CLIP = 24


def opened(dtype: str, quantised: bool) -> Stream:
    """The embedded model, in eight bits where that pays or not."""
    model = load_model(device="cpu", dtype=dtype)
    if not quantised:
        model = replace(model, bounds={})
    return Stream(model, CONFIG, accelerate(model, "openvino"))


def pictures(stream: Stream, clip: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W), once all engines are there."""
    for frame in clip[:3]:
        stream(frame)
        stream.backend.wait()
    stream.reset()
    return torch.cat([stream(frame).image.cpu() for frame in clip])


def compare(dtype: str, clip: torch.Tensor, options: argparse.Namespace) -> dict[str, Any]:
    """Both in ``dtype``."""
    streams = {"exact": opened(dtype, False), "eight bits": opened(dtype, True)}
    exact = pictures(Stream(load_model(device="cpu", dtype="float32"), CONFIG), clip)
    errors = {name: (pictures(stream, clip) - exact).square().mean((1, 2, 3)) for name, stream in streams.items()}
    for stream in streams.values():
        stream.restart_clock()
    calls = {
        name: timed(lambda count, stream=stream: stream(clip[count % len(clip)]).image.cpu())
        for name, stream in streams.items()
    }
    seconds = in_turns(calls, options.rounds, options.frames)
    found = {
        name: {
            "frame_ms": round(statistics.median(seconds[name]) * 1e3, 2),
            "stages_ms": {stage: round(ms, 2) for stage, ms in streams[name].stages_ms().items()},
            "psnr_db": round(float(-10 * errors[name].mean().log10()), 1),
            "worst_psnr_db": round(float(-10 * errors[name].max().log10()), 1),
        }
        for name in streams
    }
    for stream in streams.values():
        stream.backend.close()
    return {"dtype": dtype, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8, help="frames a turn")
    options = parser.parse_args()
    console = Console()
    clip = material.to_tensor(material.frames(CLIP, options.size))
    chosen = accelerate(load_model(device="cpu"), "openvino")
    dtypes = dict.fromkeys([chosen.numbers.partition(" ")[0], "float32"])
    chosen.close()
    results = {"size": options.size, "formats": [compare(dtype, clip, options) for dtype in dtypes]}
    console.print_json(data=results)
    # Of other processors: figures do not compare.
    console.print(f"written to {machine.save(f'quantised-{next(iter(dtypes))}', results)}")


if __name__ == "__main__":
    main()
