"""What is left of the speed beside other busy programs: ``python -m tests.benchmarks.busy``.

A process for each way of running the embedded model streams pictures in its turn, while none, one and two other
processes count as fast as they can. Each way is measured as the application runs it, and as the libraries do by
themselves: PyTorch's threads spin while they wait (see ``app/threads.py``), OpenVINO's are bound to a core each. Writes
``results/busy-cpu.json``: frames a second, the median and the best of the turns, and the share that is kept of the
speed with no other process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from app.threads import BRIEFLY
from pipeline import Stream, StreamConfig, load_model
from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.models.model import Model
from tests.benchmarks import machine, material

BY_ITSELF = ", by itself"
WAYS = ("eager", f"eager{BY_ITSELF}", "openvino", f"openvino{BY_ITSELF}")
BUSY = (0, 1, 2)
CLIP = 8

Process = subprocess.Popen[str]


class _Pinned(OpenVinoBackend):
    """As OpenVINO is by itself."""

    def __init__(self, model: Model, cache: EngineCache) -> None:
        super().__init__(model, "CPU", cache)
        del self._config["ENABLE_CPU_PINNING"]


def stream_in_turns(way: str, size: int, cache: EngineCache) -> None:
    """The measured process: stream for each number of seconds that comes in, and answer the frames a second."""
    model = load_model(device="cpu")
    backend: Backend = EagerBackend(model)
    if way.startswith("openvino"):
        backend = _Pinned(model, cache) if way.endswith(BY_ITSELF) else OpenVinoBackend(model, "CPU", cache)
    clip = material.to_tensor(material.frames(CLIP, size))
    stream = Stream(model, StreamConfig(prompt=material.PROMPT, steps=1), backend)
    for frame in clip[:3]:
        stream(frame)
        backend.wait()
    _say("ready")
    for line in sys.stdin:
        count, passed, began = 0, 0.0, time.perf_counter()
        while passed < float(line):
            stream(clip[count % CLIP]).image.cpu()
            count, passed = count + 1, time.perf_counter() - began
        _say(str(count / passed))
    backend.close()


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """Frames a second of each way beside each number of busy processes."""
    ways: dict[str, Process] = {}
    for way in WAYS:
        command = [sys.executable, "-m", "tests.benchmarks.busy", f"--way={way}", f"--cache={cache}"]
        bare = {name: value for name, value in os.environ.items() if name not in BRIEFLY}
        environment = bare if way.endswith(BY_ITSELF) else bare | BRIEFLY
        pipe = subprocess.PIPE
        ways[way] = subprocess.Popen(
            [*command, f"--size={options.size}"], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        _asked(ways[way])
    found: dict[str, dict[int, list[float]]] = {way: {busy: [] for busy in BUSY} for way in WAYS}
    loads = dict.fromkeys(BUSY, 0.0)  # of the machine, without these processes
    for _ in range(options.rounds):
        for busy in BUSY:
            psutil.cpu_percent()
            time.sleep(options.seconds / 2)
            loads[busy] += psutil.cpu_percent() / options.rounds
            with busy_processes(busy):
                for way, process in ways.items():
                    found[way][busy].append(float(_asked(process, str(options.seconds))))
    for process in ways.values():
        process.communicate("")
    return {
        "size": options.size,
        "load_percent": {busy: round(load) for busy, load in loads.items()},
        "ways": {
            way: {
                busy: {
                    "fps": round(statistics.median(turns), 2),
                    "best_fps": round(max(turns), 2),
                    "kept": round(statistics.median(turns) / statistics.median(found[way][0]), 2),
                }
                for busy, turns in one.items()
            }
            for way, one in found.items()
        },
    }


def _asked(process: Process, line: str = "") -> str:
    """Its next line, after it was told one."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise SystemExit("a measured process has ended; what it said of it is above")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each turn is")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        stream_in_turns(options.way, options.size, EngineCache(options.cache))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    console = Console()
    console.print_json(data=results)
    console.print(f"written to {machine.save('busy', results)}")


if __name__ == "__main__":
    main()
