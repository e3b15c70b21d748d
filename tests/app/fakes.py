"""Scripted sources, engines and sinks: every thread can be made fast, slow, stuck or broken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from app.engine import Loaded, Loader, ModelFacts
from app.fetching import Progress
from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sinks.base import SinkError
from app.sources.base import SourceError
from app.status import Notice, Status
from app.words import FILE_SETTINGS
from pipeline.config import StreamConfig

FACTS = ModelFacts(name="fake", device="cpu", dtype="float32", acceleration="eager", default_size=64)
SAFETY_SECONDS = 20.0  # no test waits for it; a deadlock ends there instead of with the runner's timeout


def picture(index: int, width: int = 64, height: int = 64) -> np.ndarray:
    """A flat picture that carries ``index`` (modulo 251) in its pixels."""
    return np.full((height, width, 3), index % 251, np.uint8)


def in_order(frames: Sequence[Frame]) -> bool:
    """Whether time goes on from each shown frame to the next.

    A carried picture is of a camera frame that nothing was shown for before. A picture of the model that comes late is
    itself carried to the newest moment, which may be that of the one before it. (Not so where it cannot be carried, at
    a cut or in too fast a motion: then it is shown as it is, and time steps back.)
    """
    return all(
        after.index > before.index if after.reprojected else after.index >= before.index
        for before, after in pairwise(frames)
    )


def until(done: Callable[[], bool]) -> None:
    """Sleep until ``done()``; an error after ``SAFETY_SECONDS``."""
    end = time.monotonic() + SAFETY_SECONDS
    while not done():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


def no_script(_: int) -> None:
    """Do nothing."""


@dataclass
class FakeSource:
    """``count`` flat pictures; ``script(index)`` runs before each and may sleep, wait or raise."""

    count: int | None = 10
    live: bool = False
    script: Callable[[int], None] = no_script
    on_open: Callable[[int], None] = no_script
    size: Callable[[int], tuple[int, int]] = lambda _: (64, 64)
    name: str = "fake source"
    fps: float | None = 25.0
    lost: str | None = None
    opened: int = 0
    closed: int = 0
    index: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.frame_count = self.count

    def open(self) -> None:
        self.opened += 1
        self.closing.clear()
        self.on_open(self.opened)

    def read(self) -> Frame | None:
        if self.closing.is_set() or (self.count is not None and self.index >= self.count):
            return None
        self.script(self.index)
        index = self.index
        self.index += 1
        width, height = self.size(index)
        return Frame(index, time.monotonic(), picture(index, width, height), media_time=index / 25)

    def close(self) -> None:
        self.closed += 1
        self.closing.set()


class BlockingSource(FakeSource):
    """Gives ``count`` frames, then blocks in ``read`` until it is closed."""

    def read(self) -> Frame | None:
        if self.count is not None and self.index >= self.count:
            self.closing.wait(SAFETY_SECONDS)
            raise SourceError("closed while waiting")
        return super().read()


class StubbornSource(FakeSource):
    """Blocks in its first ``read``, and in ``close`` too, until ``release`` is set."""

    def __init__(self) -> None:
        super().__init__(live=True)
        self.release = threading.Event()

    def read(self) -> Frame | None:
        self.release.wait(SAFETY_SECONDS)
        return None

    def close(self) -> None:
        self.release.wait(SAFETY_SECONDS)


@dataclass(frozen=True, eq=False)
class FakeOutput:
    image: torch.Tensor
    tags: Sequence[Hashable]
    skipped: bool = False
    repeated: bool = False
    followers: Sequence[Sequence[Hashable]] = ()
    hint: torch.Tensor | None = None
    alpha: torch.Tensor | None = None


class FakeEngine:
    """Inverts pictures with the contract of ``pipeline.Stream``: a FIFO that is steps - 1 calls deep. The hint of a
    picture, where a shape is to be kept, is half of it.

    ``script(call)`` runs before each call, counted from 0, and may sleep, wait or raise. ``events`` records what was
    asked of the engine: ``("frames", indices)``, ``("configure", config)``, ``"idle"``, ``"flush"``, ``"reset"``.
    """

    def __init__(self, config: StreamConfig | None = None, script: Callable[[int], None] = no_script) -> None:
        self.config = config or StreamConfig()
        self.script = script
        self.events: list[Any] = []
        self.calls = 0
        self.changed: list[Any] = []
        self.times: list[float | None] = []
        self.similarity = 0.5
        self.read = {_files(StreamConfig())}
        self.notes: list[str] = []
        self.on_prepare: Callable[[StreamConfig], None] = lambda _: None
        self._in_flight: deque[FakeOutput] = deque()
        self._shape: tuple[int, ...] | None = None

    def __call__(
        self,
        frames: torch.Tensor,
        /,
        *,
        tags: Sequence[Hashable],
        at: float | None = None,
        changed: Sequence[Sequence[tuple[int, int, int, int]] | None] | None = None,
    ) -> FakeOutput:
        self.changed.append(changed)
        call, self.calls = self.calls, self.calls + 1
        self.script(call)
        self.times.append(at)
        self.events.append(("frames", tuple(tag.index if isinstance(tag, Frame) else None for tag in tags)))
        output = FakeOutput(1 - frames, tags, hint=frames / 2 if self.config.keep_shape else None)
        if self._shape != tuple(frames.shape):  # primes: this frame is out at once, and fills the slots
            self._shape = tuple(frames.shape)
            self._in_flight = deque(FakeOutput(1 - frames, tags, repeated=True) for _ in range(self.config.steps - 1))
            return output
        self._in_flight.append(output)
        return self._in_flight.popleft()

    def idle(self) -> FakeOutput | None:
        if all(output.repeated for output in self._in_flight):
            return None
        self.events.append("idle")
        last = self._in_flight[-1]
        self._in_flight.append(FakeOutput(last.image, last.tags, repeated=True))
        return self._in_flight.popleft()

    def flush(self) -> list[FakeOutput]:
        self.events.append("flush")
        left = [output for output in self._in_flight if not output.repeated]
        self._forget()
        return left

    def configure(self, config: StreamConfig, /) -> Sequence[str]:
        self.events.append(("configure", config))
        if config.steps != self.config.steps:
            self._forget()  # the hardest engine that the contract allows: whoever needs those frames must flush
        self.config = config
        return self.notes

    def is_prepared(self, config: StreamConfig, /) -> bool:
        return _files(config) in self.read

    def prepare(self, config: StreamConfig, /) -> list[str]:
        self.on_prepare(config)
        self.read.add(_files(config))
        return [f"{config.loras} is read"]

    def save_memory(self, mode: str, /) -> None:
        self.events.append(("memory", mode))

    def wait_for_engines(self, wait: bool) -> None:
        self.waits = wait

    def reset(self) -> None:
        self.events.append("reset")
        self._forget()

    def stages_ms(self) -> dict[str, float]:
        return {"encode": 1.0, "unet": 2.0, "decode": 3.0}

    def progress(self) -> str:
        return "eager"

    def _forget(self) -> None:
        self._in_flight.clear()
        self._shape = None


def loader_of(*engines: FakeEngine, facts: ModelFacts = FACTS) -> Loader:
    """A loader that hands out these engines, one a load; the first gets the configuration of the settings."""
    left = deque(engines)

    def load(settings: Settings, _: Progress) -> Loaded:
        engine = left.popleft()
        engine.config = settings.stream
        return Loaded(engine, facts)

    return load


@dataclass
class ListSink:
    """Keeps the indices and the first pixel of what it is given; ``script(index)`` may sleep, wait or raise."""

    script: Callable[[int], None] = no_script
    name: str = "list"
    frames: list[Frame] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    fail_open: bool = False

    def open(self) -> None:
        self.opened += 1
        if self.fail_open:
            raise SinkError("cannot be opened")

    def write(self, frame: Frame) -> None:
        assert not self.closed, "written to after its close"
        self.script(frame.index)
        self.frames.append(frame)

    def close(self) -> None:
        self.closed += 1

    @property
    def indices(self) -> list[int]:
        return [frame.index for frame in self.frames]


def session_of(
    source: FakeSource,
    *sinks: ListSink,
    engine: FakeEngine | None = None,
    settings: Settings | None = None,
    once: bool = True,
    listener: Callable[[Status | Notice], None] | None = None,
) -> Session:
    return Session(source, settings, sinks, loader=loader_of(engine or FakeEngine()), once=once, listener=listener)


def sleep_for(seconds: float) -> Callable[[int], None]:
    return lambda _: time.sleep(seconds)


def raising(error: Exception, at: int = 3) -> Callable[[int], None]:
    def script(index: int) -> None:
        if index >= at:  # not "==": a live frame may be dropped
            raise error

    return script


def _files(config: StreamConfig) -> tuple[object, ...]:
    return tuple(getattr(config, name) for name in FILE_SETTINGS)
