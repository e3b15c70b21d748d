"""A seeded user who changes everything at once, on a real session with the embedded model: nothing breaks or leaks."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from app.drawing import Brush, Drawing
from app.engine import Loaded, Loader, ModelFacts
from app.presets import Preset, from_text, to_text
from app.series import Series
from app.session import Session
from app.settings import Settings
from app.sinks import BackgroundSink, Recorder, Sink
from app.snapshot import save_snapshot, settings_of_snapshot
from app.sources import Source
from app.sources.canvas import CanvasSource
from app.sources.images import ImageSource
from app.sources.testcard import TestCardSource
from app.sources.video import VideoSource
from app.status import SessionState
from pipeline import Stream, StreamConfig, load_model
from tests.app.fakes import SAFETY_SECONDS, ListSink, picture
from tests.app.media import cards, frames_of, write_clip

STEPS = 30
FACTS = ModelFacts("embedded", "cpu", "float32", "eager", 64)


class User:
    """Turns knobs at random, in the order that ``seed`` gives."""

    def __init__(self, session: Session, folder: Path, clip: Path, seed: int) -> None:
        self.session, self.folder, self.clip = session, folder, clip
        self.rng = random.Random(seed)
        self.drawing = Drawing(96, 64)
        self.playing: VideoSource | None = None
        self.recorders: list[Recorder] = []
        self.recorded: list[Path] = []
        self.others: list[Sink] = []
        self.series = Series(step=0.0)
        self.sources = 0
        self.last = picture(0)

    def act(self) -> None:
        """Do one thing."""
        deeds: list[Callable[[], None]] = [self.tune, self.tune, self.switch, self.paint, self.seek, self.swap]
        self.rng.choice([*deeds, self.record, self.watch, self.snap, self.look])()

    def tune(self) -> None:
        now = self.session.settings
        change = self.rng.choice(
            [
                {"prompt": self.rng.choice(["ink", "a mosaic", ""])},
                {"strength": self.rng.uniform(0.1, 1)},
                {"steps": self.rng.randint(1, 3)},
                {"guidance": self.rng.choice(["none", "self-negative"])},
                {"similarity_filter": self.rng.random() < 0.5},
                {"seed": self.rng.randrange(99)},
            ]
        )
        stream = replace(now.stream, **change)
        outer = {"frame_buffer": self.rng.randint(1, 2), "mirror": self.rng.random() < 0.5}
        self.session.update(replace(now, stream=stream, width=self.rng.choice([64, 64, 72]), height=64, **outer))

    def swap(self) -> None:
        self.session.set_model(self.rng.choice(["embedded", "embedded again"]))

    def switch(self) -> None:
        self.sources += 1
        self.playing = None
        choices: list[Callable[[], Source]] = [
            lambda: TestCardSource(width=96, height=64, live=True, fps=60),
            lambda: CanvasSource(self.drawing, fps=60),
            lambda: ImageSource(self.folder / "still.png", live=True),
            self.play,
        ]
        self.session.set_source(self.rng.choice(choices)())

    def play(self) -> VideoSource:
        self.playing = VideoSource(self.clip, realtime=True, loop=True)
        return self.playing

    def seek(self) -> None:
        if self.playing is not None:
            self.playing.seek(self.rng.uniform(0, 1))
            self.playing.loop = True

    def paint(self) -> None:
        points = [(self.rng.uniform(0, 96), self.rng.uniform(0, 64)) for _ in range(3)]
        self.drawing.stroke(points, Brush((200, 30, 30), size=self.rng.uniform(1, 20)))
        if self.rng.random() < 0.3:
            self.rng.choice([self.drawing.undo, self.drawing.redo, self.drawing.clear])()

    def record(self) -> None:
        if self.recorders:
            recorder = self.recorders.pop()
            self.session.remove_sink(recorder)
            self.recorded += [recorder.path] * (recorder.written > 0)
        else:
            self.recorders.append(Recorder(self.folder / "films"))
            self.session.add_sink(self.recorders[-1])

    def watch(self) -> None:
        if self.others and self.rng.random() < 0.5:
            self.session.remove_sink(self.others.pop())
        else:
            self.others.append(BackgroundSink(ListSink(), waiting=1))
            self.session.add_sink(self.others[-1])

    def snap(self) -> None:
        settings = self.session.settings
        path = save_snapshot(self.last, settings, "fake", self.folder / "pictures")
        assert settings_of_snapshot(path) == (settings, [])

    def look(self) -> None:
        self.series.add(self.session.metrics())
        look = Preset("now", self.session.settings)
        assert from_text(to_text(look))[0].settings.stream == look.settings.stream


def open_things() -> tuple[set[str], int]:
    """Our threads and the files and sockets of this process."""
    gc.collect()
    process = psutil.Process()
    handles = process.num_handles() if sys.platform == "win32" else process.num_fds()
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("vitrail-")}, handles


def run(folder: Path, clip: Path, seed: int, loader: Loader) -> tuple[User, Session]:
    """One session of ``STEPS`` deeds, each after the picture has moved on."""
    shown = threading.Semaphore(0)

    def show(_: int) -> None:
        shown.release()

    window = ListSink(show)
    settings = Settings(stream=StreamConfig(prompt="ink"), width=64, height=64)
    source = TestCardSource(width=96, height=64, live=True, fps=60)
    with Session(source, settings, [window], loader=loader) as session:
        user = User(session, folder, clip, seed)
        for _ in range(STEPS):
            assert shown.acquire(timeout=SAFETY_SECONDS), (session.status, session.notices)
            user.last = window.frames[-1].pixels
            user.act()
        while shown.acquire(blocking=False):
            pass
        assert shown.acquire(timeout=SAFETY_SECONDS), (session.status, session.notices)
        assert session.state is SessionState.RUNNING
        assert session.notices == []
    user.recorded += [recorder.path for recorder in user.recorders if recorder.written]
    return user, session


@pytest.fixture(scope="module")
def embedded() -> Iterator[Loader]:
    """Streams on the embedded model, each on one of its own: a LoRA of one would be seen by all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def load(settings: Settings, _: object) -> Loaded:
        model = load_model("embedded", device="cpu", dtype="float32")
        return Loaded(Stream(model, settings.stream), replace(FACTS, name=settings.model))

    yield load
    torch.set_num_threads(threads)


@pytest.mark.timeout(300)  # reads the embedded model, also on a machine that has much else to do
def test_whatever_is_changed_while_it_runs_nothing_breaks_or_leaks(tmp_path: Path, embedded: Loader) -> None:
    clip = write_clip(tmp_path / "clip.mp4", cards(24, 96, 64), fps=24)
    save = save_snapshot(picture(3), Settings(), folder=tmp_path)
    save.rename(tmp_path / "still.png")
    run(tmp_path, clip, 1, embedded)  # what libraries open for good is open now
    before = open_things()
    user, session = run(tmp_path, clip, 2, embedded)
    assert session.running == []
    assert user.sources >= 3
    assert user.recorded
    for path in user.recorded:
        assert list(frames_of(VideoSource(path)))
    for _ in range(100):  # a clip that is let go may take a moment in another thread
        if open_things() == before:
            break
        threading.Event().wait(0.05)
    assert open_things() == before
    assert before[0] == set()
