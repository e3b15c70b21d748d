"""Whether a short trial says in which number format a model is faster: ``python -m tests.benchmarks.formats``.

Measures the trial (``pipeline/backends/openvino/trial.py``) and the embedded model on OpenVINO in each number format,
in turns: as the processor is, and with the newest of its instructions switched off (``ONEDNN_MAX_CPU_ISA``), which
stands in for older ones. Writes ``results/formats-cpu.json``: milliseconds, and how many times as fast as in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino import trial
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.formats import Times, Trials
from tests.benchmarks import machine, material
from tests.benchmarks.measure import in_turns, timed

# As oneDNN calls them; the first leaves all there is.
INSTRUCTIONS = ("DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_VNNI", "AVX512_CORE")
CLIP = 8


class _AllInEightBits(Trials):
    """As if eight bits paid everywhere."""

    def times(self) -> Times:
        return {name: 1.0 if "int8" in name else 9.0 for name in trial.FORMATS}


def opened(name: str, cache: EngineCache) -> Stream:
    """The embedded model in a format of the trial's."""
    model = load_model(device="cpu", dtype=name.partition(" ")[0])
    if "int8" not in name:
        model = replace(model, bounds={})
    return Stream(
        model, StreamConfig(prompt=material.PROMPT, steps=1), OpenVinoBackend(model, "CPU", cache, _AllInEightBits())
    )


def measure_here(options: argparse.Namespace) -> dict[str, Any]:
    """With the instructions that this process may use."""
    clip = material.to_tensor(material.frames(CLIP, options.size))
    with tempfile.TemporaryDirectory() as folder:
        streams = {name: opened(name, EngineCache(Path(folder))) for name in trial.FORMATS}
        for stream in streams.values():
            for frame in clip[:3]:
                stream(frame)
                stream.backend.wait()
            stream.restart_clock()
        calls = {
            name: timed(lambda count, stream=stream: stream(clip[count % CLIP]).image.cpu())
            for name, stream in streams.items()
        }
        seconds = in_turns(calls, options.rounds, options.frames, warm_up=2)
        stages = {name: stream.stages_ms() for name, stream in streams.items()}
        for stream in streams.values():
            stream.backend.close()
    frame = {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()}
    rows = {"trial": trial.measure(), "frame": frame}
    rows |= {part: {name: stages[name][part] for name in stages} for part in ("encode", "unet", "decode")}
    return {
        what: {
            name: {"ms": round(milliseconds, 2), "speed": round(row["float32"] / milliseconds, 2)}
            for name, milliseconds in row.items()
        }
        for what, row in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4, help="frames a turn")
    parser.add_argument("--instructions", nargs="+", default=INSTRUCTIONS, metavar="NAME")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        sys.stdout.write(json.dumps(measure_here(options)))
        return
    found = {}
    arguments = [f"--{name}={getattr(options, name)}" for name in ("size", "rounds", "frames")]
    for name in options.instructions:
        command = [sys.executable, "-m", "tests.benchmarks.formats", "--here", *arguments]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": name}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout)
        Console().print_json(data={name: found[name]})
        path = machine.save("formats", {"size": options.size, "instructions": found})
        Console().print(f"written to {path}")


if __name__ == "__main__":
    main()
