"""How long a new process takes to its first styled frame.

``uv run python -m tests.benchmarks.cold`` starts the engine a few times from nothing, with the embedded model and the
engines that an earlier run has built, and writes ``results/cold-cpu.json`` (or ``-cuda``): seconds from the start of
the process to the end of each stage, medians. The first start is not counted: it fills the caches of the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

STAGES = ("torch imported", "model loaded", "first styled frame", "engines ready")


def start_once() -> None:
    """The measured process: print the seconds since its start at the end of each stage."""
    import psutil

    began = psutil.Process().create_time()
    reached = []
    import torch

    reached.append(time.time() - began)
    from pipeline import Stream, StreamConfig, load_model
    from pipeline.backends import accelerate

    model = load_model()
    backend = accelerate(model)
    reached.append(time.time() - began)
    stream = Stream(model, StreamConfig(prompt="a watercolour painting", steps=1), backend)
    stream(torch.full((1, 3, 256, 256), 0.5)).image.cpu()
    reached.append(time.time() - began)
    backend.wait()
    reached.append(time.time() - began)
    sys.stdout.write(json.dumps(reached))
    backend.close()


def measure(starts: int) -> dict[str, Any]:
    """Start ``starts`` + 1 processes, one after the other."""
    runs: list[list[float]] = []
    for _ in range(starts + 1):
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.cold", "--start-once"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    medians = [statistics.median(times) for times in zip(*runs[1:], strict=True)]
    return {"starts": starts, "seconds": {name: round(value, 2) for name, value in zip(STAGES, medians, strict=True)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--start-once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start_once:
        start_once()
        return
    from rich.console import Console  # not in the processes that are measured

    from tests.benchmarks import machine

    results = measure(options.starts)
    console = Console()
    console.print_json(data=results)
    console.print(f"written to {machine.save('cold', results)}")


if __name__ == "__main__":
    main()
