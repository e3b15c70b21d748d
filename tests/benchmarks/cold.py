"""How long a new process takes to its first styled frame.

``uv run python -m tests.benchmarks.cold`` starts the engine a few times from nothing, with the embedded model and what
an earlier process has left in the cache (engines, prompts, the record of the model), and writes
``results/cold-cpu.json`` (or ``-cuda``): from the start of the process to the end of each stage, medians of the seconds
that pass and of those that a processor is at work for it, which other processes make no longer. It does so in turns in
two ways:

- ``with bytecode``, as a user has it: Python finds the modules that it imports compiled, from the start before.
- ``without bytecode``, as in a container that is started from a fresh image, or with ``PYTHONDONTWRITEBYTECODE`` set:
  Python compiles each module that it imports.

The first start of each way is not counted: it fills the caches of the disk. ``nothing in the cache`` is the very first
of all, with no engine, prompt or record, but with bytecode, once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

STAGES = ("torch and engine imported", "model loaded", "first styled frame", "everything read and built")
# At the end of each stage: seconds since the start of the process, and seconds that a processor was at work for it.
Reached = list[tuple[float, float]]
WITH, WITHOUT, EMPTY = "with bytecode", "without bytecode", "nothing in the cache"


def start_once() -> None:
    """The measured process: print the seconds since its start, and of a processor, at the end of each stage."""
    import psutil

    process = psutil.Process()
    began = process.create_time()
    reached = []

    def note() -> None:
        spent = process.cpu_times()
        reached.append((time.time() - began, spent.user + spent.system))

    from pipeline import Stream, StreamConfig, load_model
    from pipeline.backends import accelerate

    note()
    import torch

    model = load_model()
    backend = accelerate(model)
    note()
    stream = Stream(model, StreamConfig(prompt="a watercolour painting", steps=1), backend)
    stream(torch.full((1, 3, 256, 256), 0.5)).image.cpu()
    note()
    model.modules.get()
    backend.wait()
    note()
    sys.stdout.write(json.dumps(reached))
    backend.close()


def measure(starts: int) -> dict[str, Any]:
    """Start processes of both ways in turns, ``starts`` of each and one before."""
    with TemporaryDirectory(prefix="vitrail-cold-") as folder:
        _start(Path(folder), WITH)  # for the bytecode
        (Path(folder) / "cache").rename(Path(folder) / "gone")
        runs: dict[str, list[Reached]] = {EMPTY: [_start(Path(folder), WITH)], WITH: [], WITHOUT: []}
        for number in range(starts + 1):
            for way in (WITH, WITHOUT):
                found = _start(Path(folder), way)
                if number:
                    runs[way].append(found)
    return {"starts": starts, **{way: _medians(found) for way, found in runs.items()}}


def _medians(runs: list[Reached]) -> dict[str, Any]:
    """By stage: the medians, and of the seconds the fastest and the slowest start as well."""
    found = {}
    for stage, measured in zip(STAGES, zip(*runs, strict=True), strict=True):
        seconds, processor = (sorted(column) for column in zip(*measured, strict=True))
        found[stage] = {
            "seconds": round(statistics.median(seconds), 2),
            "fastest and slowest": [round(seconds[0], 2), round(seconds[-1], 2)],
            "seconds of a processor": round(statistics.median(processor), 2),
        }
    return found


def _start(folder: Path, way: str) -> Reached:
    """Start one process, whose caches lie in ``folder``; what it has printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"VITRAIL_CACHE": str(folder / "cache"), "PYTHONPYCACHEPREFIX": str(folder / way)}
    if way == WITHOUT:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.cold", "--start-once"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


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
