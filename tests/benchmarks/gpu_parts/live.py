"""A stream as the application plays it, and how long it takes until it is at its fastest."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from typing import Any

import torch

from app.tensors import ToHost, mark, stacked
from pipeline import Model, Stream, StreamConfig
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from tests.benchmarks import material

# A wait that takes longer has waited for something to be built.
_NOTICEABLE = 0.05
# So many that wait for nothing, in a row, and all is built that a stream asks for: a stage may ask for the next.
_QUIET_WAITS = 4
_BETWEEN_WAITS = 0.25

# When the frame was handed over whose picture this is, the picture, and what waits for it.
_Call = tuple[float, torch.Tensor, Callable[[], object] | None]


def config_of(steps: int) -> StreamConfig:
    """The settings of every stream that is measured, but for the steps."""
    return StreamConfig(prompt=material.PROMPT, strength=0.5, steps=steps)


def clip_of(size: int, count: int = 32) -> torch.Tensor:
    """(count, 3, size, size) float 0..1, on the CPU."""
    return material.to_tensor(material.frames(count, size))


class Player:
    """Plays ``clip`` (N, 3, H, W) through a stream, again and again.

    Attributes:
        latencies: seconds between a frame's hand-over and its picture on the host, of all ``pipelined`` frames.
    """

    def __init__(self, stream: Stream, clip: torch.Tensor) -> None:
        self.latencies: list[float] = []
        self._stream = stream
        self._frames = list(clip)
        self._device = stream.model.device
        self._to_host = ToHost()
        self._count = 0

    def pictures(self) -> Generator[tuple[float, float], None, None]:
        """When a frame was handed over and when its picture was on the host, for ever, with two calls under way.

        As ``app.worker.WorkerThread`` does: the next call is asked for before the last is waited for.
        """
        under_way: deque[_Call] = deque()
        try:
            while True:
                under_way.append(self._call())
                if len(under_way) == 2:
                    yield self._fetched(under_way.popleft())
        finally:  # whoever comes next has the device to himself
            for call in under_way:
                self._fetched(call)

    def pipelined(self, count: int) -> list[float]:
        """Seconds between one picture and the next."""
        began = time.perf_counter()
        with closing(self.pictures()) as pictures:
            played = list(islice(pictures, count + 1))
        # Of frames that were in the slots before, the latency has others' turns in it.
        self.latencies += [shown - handed for handed, shown in played if handed >= began]
        return [after - before for (_, before), (_, after) in pairwise(played)]

    def waiting(self, count: int) -> list[float]:
        """Seconds of each frame, where the next is handed over when its picture is on the host."""
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            self._fetched(self._call())
            seconds.append(time.perf_counter() - began)
        return seconds

    def _call(self) -> _Call:
        handed = time.perf_counter()
        frame = stacked([self._frames[self._count % len(self._frames)]], 1, str(self._device))
        self._count += 1
        output = self._stream(frame, tags=[handed])
        return output.tags[0], output.image, mark(self._device)

    def _fetched(self, call: _Call) -> tuple[float, float]:
        handed, image, done = call
        if done is not None:
            done()
        self._to_host(image)
        return handed, time.perf_counter()


class Watch(threading.Thread):
    """Finds out, beside a stream that plays, when its backend has built all that it asks for.

    Attributes:
        built: seconds since ``since`` until then; None before.
        names: what the backend said that runs the networks, with the second since which it did.
    """

    def __init__(self, backend: Backend, since: float) -> None:
        super().__init__(name="watch", daemon=True)
        self.built: float | None = None
        self.names: list[tuple[float, str]] = []
        self._backend = backend
        self._since = since
        self._over = threading.Event()

    def run(self) -> None:
        quiet, last = 0, self._now()
        while quiet < _QUIET_WAITS and not self._over.wait(_BETWEEN_WAITS):
            stage = self._backend.progress()
            if not self.names or self.names[-1][1] != stage:
                self.names.append((round(self._now(), 2), stage))
            began = self._now()
            self._backend.wait()
            waited = self._now() - began > _NOTICEABLE
            quiet, last = (0, self._now()) if waited else (quiet + 1, last)
        if quiet == _QUIET_WAITS:
            self.built = last

    def give_up(self) -> None:
        """End, if not at once: a wait for what is being built cannot be broken off."""
        self._over.set()

    def _now(self) -> float:
        return time.perf_counter() - self._since


def started(
    model: Model, acceleration: str, config: StreamConfig, clip: torch.Tensor, patience: float, early: float
) -> tuple[Backend, Player, dict[str, Any]]:
    """A stream that is fed frames without pause from its start until all is built, and what was seen meanwhile.

    Args:
        patience: seconds after which it is given up that all will be built.
        early: the second around which the speed is told that a user sees first.
    """
    begun = time.perf_counter()
    backend = accelerate(model, acceleration)
    player = Player(Stream(model, config, backend), clip)
    watch = Watch(backend, begun)
    shown: list[float] = []
    with closing(player.pictures()) as pictures:
        for _, at in pictures:
            shown.append(at - begun)
            if len(shown) == 1:
                watch.start()
            if shown[-1] > patience or (shown[-1] > early + 0.5 and not watch.is_alive()):
                break
    watch.give_up()
    gaps = [after - before for before, after in pairwise(shown)]
    near = [gap for gap, at in zip(gaps, shown[1:], strict=True) if abs(at - early) <= 0.5] or gaps[:1]
    facts: dict[str, Any] = {
        "first_picture_s": round(shown[0], 2),
        "early_s": early,
        "early_ms": median_ms(near) if near else None,
        "longest_pause_ms": round(1e3 * max(gaps), 1) if gaps else None,
        "built_s": None if watch.built is None else round(watch.built, 2),
        "fed_for_s": round(shown[-1], 2),
        "stages": [*watch.names, (round(shown[-1], 2), backend.progress())],
        "news": backend.news(),
    }
    return backend, player, facts


def built(model: Model, acceleration: str, config: StreamConfig, clip: torch.Tensor) -> tuple[Backend, Player]:
    """A stream whose engines are built, on a backend of its own."""
    backend = accelerate(model, acceleration)
    player = Player(Stream(model, config, backend), clip)
    settled(backend, lambda: player.waiting(4))
    return backend, player


def settled(backend: Backend, call: Callable[[], object]) -> None:
    """Have all built that ``call`` asks for, stage by stage."""
    quiet = 0
    while quiet < 2:
        call()
        began = time.perf_counter()
        backend.wait()
        quiet = 0 if time.perf_counter() - began > _NOTICEABLE else quiet + 1


def figures(pipelined: Sequence[float], waiting: Sequence[float], latencies: Sequence[float]) -> dict[str, Any]:
    """Medians in milliseconds, and the latency in frames: how many pictures are shown while one is made.

    Of a turn with no more frames than are in the slots, the latency is not known.
    """
    found: dict[str, Any] = {"pipelined_ms": median_ms(pipelined), "waiting_ms": median_ms(waiting)}
    if latencies:
        frames = statistics.median(latencies) / statistics.median(pipelined)
        found |= {"latency_ms": median_ms(latencies), "latency_frames": round(frames, 2)}
    return found


def median_ms(seconds: Sequence[float]) -> float:
    """Of at least one figure."""
    return round(1e3 * statistics.median(seconds), 3)
