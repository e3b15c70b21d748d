"""What it costs to style only the person: frames with and without, in turns, and the network that finds the person.

``uv run python -m tests.benchmarks.person`` runs the embedded model as ``accelerate`` does. ``time`` is the median of
the ratios to the plain frame, turn by turn; ``network`` is the network that finds the person alone, by the same
backend. Writes ``results/person-cpu.json``.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from rich.console import Console

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.masking.segmenter import SIDE, PersonNetwork
from tests.benchmarks import machine, material
from tests.benchmarks.measure import in_turns, timed

PLAIN = "plain"
CASES: dict[str, dict[str, str]] = {
    PLAIN: {},
    "only the person": {"only": "person"},
    "a blur behind": {"background": "blur"},
    "nothing behind": {"background": "none"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acceleration", default="auto")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=120)
    model = load_model("embedded", device="cpu")
    backend = accelerate(model, options.acceleration)
    backend.patient = True
    network, squares = PersonNetwork(model.device), torch.rand(1, 3, SIDE, SIDE)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for size in options.sizes:
        clip = [material.to_tensor(pixels) for pixels in material.frames(4, size)]
        streams = {name: Stream(model, StreamConfig(prompt="ink", **case), backend) for name, case in CASES.items()}  # type: ignore[arg-type]
        steps = {
            name: timed(lambda number, stream=stream, clip=clip: stream(clip[number % 4]))
            for name, stream in streams.items()
        }
        steps["network"] = timed(lambda _: backend.run(network, {"squares": squares}, {}))
        seconds = in_turns(steps, options.rounds, 30, warm_up=8)
        found = {
            name: {
                "ms": round(1e3 * statistics.median(own), 2),
                "time": round(statistics.median(a / b for a, b in zip(own, seconds[PLAIN], strict=True)), 3),
            }
            for name, own in seconds.items()
        }
        results[str(size)] = found
        for name, figures in found.items():
            console.print(f"{size}, {name}: {figures}")
        for stream in streams.values():
            stream.close()
    backend.close()
    kept = {"acceleration": backend.name, "threads": torch.get_num_threads(), "sizes": results}
    console.print(f"written to {machine.save('person', kept)}")


if __name__ == "__main__":
    main()
