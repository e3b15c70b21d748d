"""Host time of one call of a stream around networks that cost nothing: all that is ours and not the model's.

``uv run python -m tests.benchmarks.overhead`` prints the median and the lower decile in microseconds for one and four
steps and several kinds of guidance. The networks are engines of a graph backend that give the same tensors each time,
for pictures of 512x512 and a UNet of four cross-attentions.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console

from pipeline import Stream, StreamConfig
from pipeline.backends.backend import Tensors
from pipeline.backends.engine_backend import Engine
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.backends.spec import Spec
from pipeline.models.networks import Network
from tests.tiny_model import tiny_model

SIZE = 512
CASES = (("none", 1), ("none", 4), ("self-negative", 1), ("full", 1))


class _Free:
    """An engine that gives the same outputs each time."""

    def __init__(self, name: str, rows: int) -> None:
        latent, picture = (rows, 4, SIZE // 8, SIZE // 8), (rows, 3, SIZE, SIZE)
        outputs = {"encoder": ("latents", latent), "denoiser": ("output", latent), "decoder": ("pictures", picture)}
        output, shape = outputs[name]
        self._outputs = {output: torch.rand(shape)}

    def __call__(self, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        return self._outputs


class FreeBackend(GraphBackend):
    """Finds an engine for everything, and it costs nothing."""

    def __init__(self) -> None:
        super().__init__(tiny_model(), "cuda-graphs", CUDA_GRAPHS)
        self._free: dict[Spec, Engine] = {}

    def _found(self, network: Network, spec: Spec) -> tuple[Spec, Engine]:
        if spec not in self._free:
            self._free[spec] = _Free(network.name, spec.rows)
        return spec, self._free[spec]


def measured(guidance: str, steps: int, calls: int) -> list[float]:
    """Microseconds of each call."""
    config = StreamConfig(prompt="a", steps=steps, guidance=guidance, guidance_scale=1.4, guidance_rescale=0.0)
    stream, frame = Stream(tiny_model(), config, FreeBackend()), torch.rand(3, SIZE, SIZE)
    stream(frame)
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        stream(frame)
        times.append(1e6 * (time.perf_counter() - started))
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for guidance, steps in CASES:
        times = measured(guidance, steps, options.calls)
        median, decile = statistics.median(times), times[len(times) // 10]
        Console().print(f"{guidance}, T = {steps}: {median:.0f} us, lower decile {decile:.0f} us")


if __name__ == "__main__":
    main()
