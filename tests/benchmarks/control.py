"""What keeping the shape costs: a frame without and with a T2I-Adapter and a ControlNet, beside what they calculate.

``uv run python -m tests.benchmarks.control`` times frames in turns, so that whatever slows the machine slows all of
them. The network has Stable Diffusion 1.5's layout at a fifth of its width and random weights (``narrow-sd15``), and
hints are given, so that what OpenCV takes is not in it. ``time`` is the median of the ratios to the frame without,
turn by turn, ``operations`` the ratio of multiply-accumulates of a whole frame (as PyTorch counts them), and ``mb``
what travels with a frame through the slots. Writes ``results/control-cpu.json``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from pipeline import Model, Stream, StreamConfig, load_model
from tests.benchmarks import machine, material
from tests.benchmarks.measure import in_turns, timed
from tests.controls import new_adapter, new_controlnet, write_control
from tests.tiny_model import unet_of

PLAIN = "without"


def kept(model: Model, folder: Path) -> dict[str, str]:
    """The setting of each contestant."""
    unet = unet_of(model)
    full: dict[str, Any] = {
        "conditioning_embedding_out_channels": (16, 32, 96, 256)
    }  # as wide as in all ControlNets that are about
    made = {
        "T2I-Adapter": [new_adapter(unet)],
        "ControlNet": [new_controlnet(unet, **full)],
        "two ControlNets": [new_controlnet(unet, seed, **full) for seed in (1, 2)],
    }
    settings = {PLAIN: ""}
    for name, controls in made.items():
        folders = [write_control(folder / f"{name} {number}", control) for number, control in enumerate(controls)]
        settings[name] = "; ".join(f"canny:0.8 @ {one}" for one in folders)
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="narrow-sd15", help="narrow-sd15, sd15, sd-turbo or a folder")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(
            str(material.model_folder(options.model, Path(folder) / "model")), device="cpu", dtype="float32"
        )
        config = {"prompt": "a watercolour", "steps": options.steps, "solver": "ddim", "strength": 0.6}
        streams = {
            name: Stream(model, StreamConfig(**config, keep_shape=setting))
            for name, setting in kept(model, Path(folder)).items()
        }
    clip = [material.to_tensor(pixels) for pixels in material.frames(4, options.size)]

    def step(name: str, number: int) -> None:
        frame = clip[number % len(clip)]
        streams[name](frame, hints={"canny": 1 - frame} if name != PLAIN else None)

    seconds = in_turns(
        {name: timed(lambda number, name=name: step(name, number)) for name in streams}, options.rounds, 1, warm_up=2
    )
    operations: dict[str, int] = {}
    for name in streams:
        with FlopCounterMode(display=False) as counter:
            step(name, 0)
        operations[name] = counter.get_total_flops()
    found: dict[str, dict[str, float]] = {}
    for name, stream in streams.items():
        ratios = [own / plain for own, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        found[name] = {
            "ms": round(1e3 * statistics.median(seconds[name]), 1),
            "time": round(statistics.median(ratios), 3),
            "operations": round(operations[name] / operations[PLAIN], 3),
            "mb": round(sum(one.nbytes for one in stream._brought.values()) / 2**20, 2),
        }
        console.print(f"{name}: {found[name]}")
    results = {
        "model": options.model,
        "size": options.size,
        "steps": options.steps,
        "threads": torch.get_num_threads(),
        "cases": found,
    }
    console.print(f"written to {machine.save('control', results)}")


if __name__ == "__main__":
    main()
