"""How long the device was busy with something, without ever waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

# Devices with a queue of work whose events have times.
_QUEUED = {"cuda": torch.cuda, "xpu": torch.xpu}


class Stopwatch(Protocol):
    """Runs from when it is made until it is stopped."""

    def stop(self) -> None: ...

    @property
    def seconds(self) -> float | None:
        """What it shows once it has been stopped; None while the device has not come to where it was stopped."""
        ...


class HostStopwatch:
    """For a CPU, where a call has done its work when it returns."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds: float | None = None

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started

    @property
    def seconds(self) -> float | None:
        return self._seconds


class Untimed:
    """Measures nothing, so that nothing is decided by how busy the machine is."""

    seconds = None

    def stop(self) -> None:
        pass


class EventStopwatch:
    """For a device with a queue: marks both ends by events in its current stream there.

    Args:
        device: of type ``cuda`` or ``xpu``.
    """

    def __init__(self, device: torch.device) -> None:
        accelerator = _QUEUED[device.type]
        self._stream = accelerator.current_stream(device)
        self._start, self._end = accelerator.Event(enable_timing=True), accelerator.Event(enable_timing=True)
        self._start.record(self._stream)

    def stop(self) -> None:
        self._end.record(self._stream)

    @property
    def seconds(self) -> float | None:
        return self._start.elapsed_time(self._end) / 1e3 if self._end.query() else None


def stopwatch_for(device: torch.device) -> Callable[[], Stopwatch] | None:
    """What makes stopwatches for this device; None where nothing tells how long a part of its work takes.

    The host's clock will not do on a GPU: a call returns when its work has been queued.
    """
    if device.type == "cpu":
        return HostStopwatch
    return partial(EventStopwatch, device) if device.type in _QUEUED else None
