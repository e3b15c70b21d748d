"""How much faster residual guidance is than full guidance in the UNet alone, where arithmetic takes the time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from pipeline import Model, Stream, StreamConfig
from pipeline.backends.backend import Tensors
from pipeline.backends.eager import EagerBackend
from pipeline.device import number_format
from pipeline.models.networks import DenoiserNetwork, Network
from tests.pipeline.backends.calls import RecordingBackend

KINDS = ("self-negative", "full")


class _Timed(RecordingBackend):
    """Notes the seconds of each call of the UNet.

    On a processor they are those that it has spent on this process, whatever else runs.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(EagerBackend(model))
        self._device = model.device
        self.seconds: list[float] = []

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        if network.name != DenoiserNetwork.name:
            return super().run(network, moving, staying)
        started = self._now()
        outputs = super().run(network, moving, staying)
        self.seconds.append(self._now() - started)
        return outputs

    def _now(self) -> float:
        if self._device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def full_over_self_negative(model: Model, config: StreamConfig, clip: torch.Tensor, rounds: int) -> dict[str, Any]:
    """Full guidance against self-negative in turns, the fastest call of each, which was disturbed the least.

    A call has 2 T rows against T, and the paper's own figure is 2.05 at T = 5. It is reached where time goes with the
    rows: not where the weights have to come from memory once a call, however many rows there are, nor where operations
    have to be launched.

    Args:
        model: on a processor in float32, for which one core is used; there the memory keeps up with the arithmetic.
        clip: (N, 3, H, W).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if model.device.type == "cpu" else threads)
    try:
        backends = {kind: _Timed(model) for kind in KINDS}
        streams = {kind: Stream(model, replace(config, guidance=kind), one) for kind, one in backends.items()}
        for kind, stream in streams.items():
            stream(clip[0])
            stream(clip[1 % len(clip)])
            backends[kind].seconds.clear()
        for number in range(rounds):
            for stream in streams.values():
                stream(clip[number % len(clip)])
    finally:
        torch.set_num_threads(threads)
    ms = {kind: 1e3 * min(one.seconds) for kind, one in backends.items()}
    return {
        "steps": config.steps,
        "size": clip.shape[-1],
        "dtype": number_format(model.dtype),
        "cores": 1 if model.device.type == "cpu" else None,
        "rows": {kind: one.shapes(DenoiserNetwork.name)[-1][0] for kind, one in backends.items()},
        "unet_ms": {kind: round(one, 2) for kind, one in ms.items()},
        "full_over_self_negative": round(ms["full"] / ms["self-negative"], 3),
    }
