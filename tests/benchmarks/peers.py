"""The same model through Vitrail, StreamDiffusion 0.1.1 and diffusers' AutoPipelineForImage2Image, in turns.

``uv run python -m tests.benchmarks.peers`` prints milliseconds a frame and ratios, and writes
``results/peers-cpu.json`` (or ``-cuda``). All have the same weights, the same tiny autoencoder and the same frames;
waiting is included for all, warm-up for none. Each peer is a process of its own, because their packages exclude each
other, and sleeps while another has its turn. StreamDiffusion's environment is made on the first run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from rich.console import Console
from rich.table import Table

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from tests.benchmarks import machine, material
from tests.benchmarks.measure import Contestant, in_turns, timed

_HERE = Path(__file__).parent
_WORKERS = _HERE / "workers"
VITRAIL, STREAMDIFFUSION, AUTOPIPELINE = "Vitrail", "StreamDiffusion 0.1.1", "AutoPipelineForImage2Image"


class Peer:
    """A worker process: gives its time a frame when it is asked to.

    Args:
        environment: of the process; by default this one's.
    """

    def __init__(
        self, python: Path | str, script: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [str(python), "-P", "-W", "ignore", str(_WORKERS / script), *map(str, arguments)]
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        self.facts = self._answer()

    def __call__(self, frames: int) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"frames": frames}) + "\n")
        self._process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._log.seek(0)
        raise RuntimeError(f"{self._process.args} ended: {self._log.read()[-1500:]}")


def peer_python() -> Path:
    """The interpreter of StreamDiffusion's own environment, which is made where it is not there."""
    folder = Path(platformdirs.user_cache_dir("vitrail", appauthor=False)) / "peers"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    wanted = (_HERE / "peers.txt").read_text(encoding="utf-8") + f"torch=={torch.__version__.partition('+')[0]}\n"
    made_of = folder / "made-of.txt"
    if not made_of.is_file() or made_of.read_text(encoding="utf-8") != wanted:
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", "3.11", str(folder)], check=True)
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", str(python), "-r", "-"], input=wanted, text=True, check=True
        )
        made_of.write_text(wanted, encoding="utf-8")
    return python


def vitrail(model: Path, clip: np.ndarray, config: StreamConfig, acceleration: str) -> tuple[Contestant, str]:
    """Vitrail's turn, with its engines built, and what it runs on in words."""
    loaded = load_model(str(model))
    backend = accelerate(loaded, acceleration)
    stream = Stream(loaded, config, backend)
    frames = list(material.to_tensor(clip))

    def call(count: int) -> torch.Tensor:
        return stream(frames[count % len(frames)]).image.cpu()

    for count in range(3):  # asks for every engine that this stream needs
        call(count)
    backend.wait()
    return timed(call), f"{backend.name}, {backend.numbers}"


def compare(
    model: Path, clip: np.ndarray, clip_file: Path, steps: int, dtype: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table: everyone at ``steps`` steps, the peers in ``dtype``."""
    config = StreamConfig(prompt=material.PROMPT, steps=steps, strength=0.5)
    with ExitStack() as stack:

        def start(make: Callable[[], Peer]) -> Peer:
            peer = make()
            stack.callback(peer.close)
            return peer

        arguments = (model, clip_file, steps, "none", dtype)
        peers = {
            STREAMDIFFUSION: start(lambda: Peer(peer_python(), "streamdiffusion_worker.py", *arguments)),
            AUTOPIPELINE: start(lambda: Peer(sys.executable, "autopipeline_worker.py", *arguments)),
        }
        mine, how = vitrail(model, clip, config, options.acceleration)
        seconds = in_turns({VITRAIL: mine, **peers}, options.rounds, options.frames, options.warm_up)
        milliseconds = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
        return {
            "steps": steps,
            "size": options.size,
            "guidance": "none",
            "peers_dtype": dtype,
            "vitrail": how,
            "ms": {name: round(value, 2) for name, value in milliseconds.items()},
            "fps": {name: round(1e3 / value, 2) for name, value in milliseconds.items()},
            "best_ms": {name: round(1e3 * min(times), 2) for name, times in seconds.items()},
            "ratio": {name: round(milliseconds[name] / milliseconds[VITRAIL], 2) for name in peers},
            "peers": {name: peer.facts["versions"] for name, peer in peers.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plain", help="plain (the embedded shape), sd-turbo or a folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--dtypes", nargs="+", default=["float16" if torch.cuda.is_available() else "float32"])
    parser.add_argument("--acceleration", default="auto", help="Vitrail's own")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8, help="frames a turn")
    parser.add_argument("--warm-up", type=int, default=8, help="frames before, which do not count")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        model = material.model_folder(options.model, Path(folder) / "model")
        clip = material.frames(64, options.size)
        clip_file = Path(folder) / "frames.npy"
        np.save(clip_file, clip)
        rows: list[dict[str, Any]] = []
        for dtype in options.dtypes:
            for steps in options.steps:
                rows.append(compare(model, clip, clip_file, steps, dtype, options))
                # After each, as a later one may be interrupted.
                path = machine.save("peers", {"model": options.model, "rows": rows})
                console.print(f"{steps} steps, {dtype}: {rows[-1]['ratio']}; written to {path}")
    table = Table("", "steps", "ms a frame", "fps", "Vitrail is faster by")
    for row in rows:
        for name, value in row["ms"].items():
            how = row["vitrail"] if name == VITRAIL else row["peers_dtype"]
            ratio = f"{row['ratio'][name]:.2f}x" if name in row["ratio"] else ""
            table.add_row(f"{name} ({how})", str(row["steps"]), f"{value:.1f}", f"{1e3 / value:.1f}", ratio)
    console.print(table)


if __name__ == "__main__":
    main()
