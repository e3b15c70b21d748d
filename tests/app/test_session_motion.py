"""A whole session with a model slower than its camera: pictures are carried, counted apart, and never in the way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sinks.callback import CallbackSink
from pipeline.config import StreamConfig
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, FakeSource, in_order, loader_of
from tests.app.moving import shifted, texture

SCENE = texture(1, 64)
WANTED = 12  # carried pictures


@dataclass
class Camera(FakeSource):
    """A live source of a scene that moves; it gives a frame whenever ``go`` allows one."""

    live: bool = True
    count: int | None = None
    pace: float = 0.01
    closing: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Frame | None:
        self.closing.wait(self.pace)
        index, self.index = self.index, self.index + 1
        return Frame(index, time.monotonic(), shifted(SCENE, index % 8, 0))


class Watcher:
    """Keeps what is shown, and says when there is enough of it."""

    def __init__(self, enough: int) -> None:
        self.frames: list[Frame] = []
        self.done = threading.Event()
        self._enough = enough

    def __call__(self, frame: Frame) -> None:
        self.frames.append(frame)
        if sum(frame.reprojected for frame in self.frames) >= self._enough:
            self.done.set()


@pytest.mark.parametrize(("mode", "frame_buffer", "steps"), [("auto", 1, 1), ("on", 2, 1), ("auto", 1, 3)])
def test_a_slow_model_is_bridged_by_carried_pictures(mode: str, frame_buffer: int, steps: int) -> None:
    watcher = Watcher(WANTED)
    engine = FakeEngine(script=lambda _: time.sleep(0.08))
    settings = Settings(
        stream=StreamConfig(steps=steps), reprojection=mode, frame_buffer=frame_buffer, width=64, height=64
    )
    with Session(Camera(), settings, [CallbackSink(watcher)], loader=loader_of(engine)) as session:
        assert watcher.done.wait(SAFETY_SECONDS)
        counts = session.metrics()
        report = session.report()
    real = [frame for frame in watcher.frames if not frame.reprojected]
    assert len(watcher.frames) - len(real) >= WANTED
    assert real
    assert counts.frames_reprojected >= WANTED - 1  # the last may have been shown but not yet counted
    assert counts.frames_out <= len(real) < counts.frames_reprojected + counts.frames_out
    assert counts.fps_reprojected > 0
    assert counts.motion_p50_ms < counts.latency_p50_ms
    assert report is not None
    assert report["frames_reprojected"] == counts.frames_reprojected
    assert in_order(watcher.frames)
    for frame in watcher.frames:
        assert frame.original is not None
        assert frame.original.index == frame.index
        assert frame.pixels.any()


def test_off_shows_the_models_pictures_alone() -> None:
    shown: list[Frame] = []
    enough = threading.Event()

    def watch(frame: Frame) -> None:
        shown.append(frame)
        if len(shown) >= 4:
            enough.set()

    settings = Settings(reprojection="off", width=64, height=64)
    engine = FakeEngine(script=lambda _: time.sleep(0.03))
    with Session(Camera(), settings, [CallbackSink(watch)], loader=loader_of(engine)) as session:
        assert enough.wait(SAFETY_SECONDS)
        assert session.metrics().frames_reprojected == 0
    assert not any(frame.reprojected for frame in shown)


def test_files_are_never_carried() -> None:
    shown: list[Frame] = []
    settings = Settings(reprojection="on", width=64, height=64)
    with Session(FakeSource(12), settings, [CallbackSink(shown.append)], loader=loader_of(FakeEngine())) as session:
        session.wait(SAFETY_SECONDS)
    assert [frame.index for frame in shown] == list(range(12))
    assert not any(frame.reprojected for frame in shown)


def test_the_mode_can_be_changed_and_the_source_replaced_while_running() -> None:
    watcher = Watcher(3)
    engine = FakeEngine(script=lambda _: time.sleep(0.05))
    settings = Settings(reprojection="on", width=64, height=64)
    with Session(Camera(), settings, [CallbackSink(watcher)], loader=loader_of(engine)) as session:
        assert watcher.done.wait(SAFETY_SECONDS)
        session.set_source(Camera(pace=0.005))
        watcher.done.clear()
        watcher.frames.clear()
        assert watcher.done.wait(SAFETY_SECONDS)
        session.update(Settings(reprojection="off", width=96, height=64, steadiness=1.0))
        seen = threading.Event()
        session.add_sink(CallbackSink(lambda frame: seen.set() if frame.pixels.shape[1] == 96 else None))
        assert seen.wait(SAFETY_SECONDS)
        assert not session.state.final
    assert all(isinstance(frame.pixels, np.ndarray) for frame in watcher.frames)
