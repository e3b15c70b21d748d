"""How long each stage of the model takes, without ever making the host wait for the device."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

STAGES = ("encode", "unet", "decode")

# Runs remembered a stage: a few seconds of a live picture.
_WINDOW = 120


class StageClock:
    """Times named stages: by the host's clock on a CPU, by events in the device's own queue on CUDA and XPU."""

    def __init__(self, device: torch.device) -> None:
        self._accelerator = {"cuda": torch.cuda, "xpu": torch.xpu}.get(device.type)
        self._device = device
        self._finished: dict[str, deque[float]] = {stage: deque(maxlen=_WINDOW) for stage in STAGES}
        self._pending: deque[tuple[str, torch.Event, torch.Event]] = deque(maxlen=_WINDOW)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as one run of ``stage``."""
        if self._accelerator is None:
            started = time.perf_counter()
            yield
            self._finished[stage].append((time.perf_counter() - started) * 1e3)
            return
        start = self._accelerator.Event(enable_timing=True)
        end = self._accelerator.Event(enable_timing=True)
        # Events are recorded on this device's queue: without it, they would be on that of the current device.
        queue = self._accelerator.current_stream(self._device)
        start.record(queue)
        yield
        end.record(queue)
        self._pending.append((stage, start, end))

    def medians_ms(self) -> dict[str, float]:
        """Median milliseconds of each stage over its last runs; 0 for one that has not run."""
        while self._pending and self._pending[0][2].query():
            stage, start, end = self._pending.popleft()
            self._finished[stage].append(start.elapsed_time(end))
        # A copy first: the worker may add a run while another thread asks.
        runs = {stage: list(times) for stage, times in self._finished.items()}
        return {stage: statistics.median(times) if times else 0.0 for stage, times in runs.items()}
