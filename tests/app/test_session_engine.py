"""Sessions with the real engine on a tiny model: the contract that the scripted engines stand in for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from app.engine import Loaded, ModelFacts
from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sources.testcard import TestCardSource
from app.status import SessionState
from pipeline import Stream, StreamConfig
from tests.app.fakes import SAFETY_SECONDS, FakeSource, ListSink, in_order, picture
from tests.tiny_model import tiny_model

FACTS = ModelFacts("tiny", "cpu", "float32", "eager", 64)


def load(settings: Settings, *_: object) -> Loaded:
    """A stream on the shared tiny model."""
    return Loaded(Stream(tiny_model(sees_input=True), settings.stream), FACTS)


def render(source: FakeSource | TestCardSource, settings: Settings) -> tuple[ListSink, Session]:
    """Everything that comes out of a file."""
    taken = ListSink()
    with Session(source, settings, [taken], loader=load, once=True) as session:
        status = session.wait(2 * SAFETY_SECONDS)
    assert status.state is SessionState.ENDED, status
    return taken, session


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("frame_buffer", [1, 2])
@pytest.mark.parametrize("similarity_filter", [False, True])
def test_every_frame_of_a_file_comes_out_once(steps: int, frame_buffer: int, similarity_filter: bool) -> None:
    stream = StreamConfig(steps=steps, similarity_filter=similarity_filter, similarity_threshold=0.5)
    settings = Settings(stream=stream, frame_buffer=frame_buffer, width=64, height=64)
    taken, session = render(TestCardSource(width=64, height=64, frames=11), settings)
    assert taken.indices == list(range(11))
    assert session.metrics().frames_out == 11
    assert session.metrics().stages_ms["unet"] > 0
    assert (session.metrics().frames_skipped > 0) == similarity_filter


@dataclass
class StallingSource(FakeSource):
    """Gives ten frames, of which the last three show the same, and blocks until ``goes_on`` is set; then more."""

    goes_on: threading.Event = field(default_factory=threading.Event)

    def read(self) -> Frame | None:
        time.sleep(0.02)
        if self.index == 10:
            self.goes_on.wait(SAFETY_SECONDS)
        frame = super().read()
        return frame and replace(frame, pixels=picture(40 * (7 if 7 < frame.index < 10 else frame.index)))


@pytest.mark.parametrize("similarity_filter", [False, True])
def test_nothing_of_a_live_source_stays_in_flight_while_it_stalls(similarity_filter: bool) -> None:
    settled, enough = threading.Event(), threading.Event()

    def note(index: int) -> None:
        # The last two frames are skipped by the filter, and have the picture of the one before.
        if index >= (7 if similarity_filter else 9):
            settled.set()
        if index >= 15:
            enough.set()

    taken = ListSink(script=note)
    source = StallingSource(count=None, live=True)
    stream = StreamConfig(steps=4, similarity_filter=similarity_filter)
    settings = Settings(stream=stream, width=64, height=64, reprojection="off")
    with Session(source, settings, [taken], loader=load) as session:
        assert settled.wait(SAFETY_SECONDS), "the last frames stay in flight"
        before = len(taken.frames)
        source.goes_on.set()
        assert enough.wait(SAFETY_SECONDS)
        assert session.state is SessionState.RUNNING
    assert min(taken.indices[before:]) >= 10
    assert taken.indices == sorted(set(taken.indices))


CHANGES: list[dict[str, Any]] = [
    {"prompt": "ink"},
    {"steps": 3},
    {"strength": 0.5},
    {"guidance": "full", "negative_prompt": "grey", "guidance_scale": 1.5},
    {"steps": 1, "solver": "ddim"},
    {"guidance": "self-negative"},
    {"steps": 2, "guidance": "onetime-negative", "seed": 5},
    {"similarity_filter": True, "guidance": "none"},
]


def test_every_setting_may_change_between_file_frames() -> None:
    changes = iter(CHANGES)

    def change(index: int) -> None:
        if index % 3 == 2 and (values := next(changes, None)):
            now = session.settings
            session.update(
                replace(
                    now,
                    stream=replace(now.stream, **values),
                    width=64 + 8 * (index % 2),
                    height=64,
                    frame_buffer=1 + index % 2,
                )
            )

    taken = ListSink()
    session = Session(FakeSource(count=30, script=change), sinks=[taken], loader=load, once=True)
    with session:
        assert session.wait(2 * SAFETY_SECONDS).state is SessionState.ENDED
    assert taken.indices == list(range(30))
    assert next(changes, None) is None
    assert session.settings.stream.similarity_filter


def test_a_change_meets_exactly_the_frames_that_came_after_it() -> None:
    """The prompt changes with frame 4: up to there the pictures equal those of the one prompt, then of the other."""

    def pictures(*prompts: str) -> list[torch.Tensor]:
        def change(index: int) -> None:
            stream = StreamConfig(prompt=prompts[0] if index < 4 else prompts[-1], strength=1.0)
            session.update(Settings(stream=stream, width=64, height=64))

        taken = ListSink()
        session = Session(FakeSource(count=8, script=change), sinks=[taken], loader=load, once=True)
        with session:
            session.wait(2 * SAFETY_SECONDS)
        return [torch.from_numpy(frame.pixels).int() for frame in taken.frames]

    first, second, changed = pictures("ink"), pictures("a mosaic"), pictures("ink", "a mosaic")
    assert any((a != b).any() for a, b in zip(first, second, strict=True))  # the prompts do differ
    for index, found in enumerate(changed):
        torch.testing.assert_close(found, (first if index < 4 else second)[index], atol=1, rtol=0)


def test_a_live_session_takes_every_change() -> None:
    enough = threading.Event()
    changes = iter(CHANGES)

    def change(index: int) -> None:
        if index % 5 == 4:
            if (values := next(changes, None)) is None:
                enough.set()
                return
            session.update(replace(session.settings, stream=replace(session.settings.stream, **values)))

    taken = ListSink(script=change)  # on the display thread, as a window would
    source = TestCardSource(width=64, height=64, fps=200, live=True)
    # Carried pictures would be ahead of one of the model that cannot be carried to them.
    settings = Settings(width=64, height=64, reprojection="off")
    with Session(source, settings, [taken], loader=load) as session:
        assert enough.wait(2 * SAFETY_SECONDS), session.status
        assert session.state is SessionState.RUNNING
        assert session.notices == []
    assert in_order(taken.frames)


def test_a_transition_of_a_file_is_timed_by_the_clip() -> None:
    """At 25 fps, 0.16 s are four frames: the change comes with frame 4, the new prompt is whole at frame 7."""

    def pictures(*prompts: str, seconds: float = 0.0) -> list[torch.Tensor]:
        def change(index: int) -> None:
            prompt = prompts[0] if index < 4 else prompts[-1]
            session.update(Settings(stream=StreamConfig(prompt=prompt, strength=1.0, transition=seconds), width=64))

        taken = ListSink()
        session = Session(FakeSource(count=9, script=change), sinks=[taken], loader=load, once=True)
        with session:
            session.wait(2 * SAFETY_SECONDS)
        return [torch.from_numpy(frame.pixels).int() for frame in taken.frames]

    first, second, turned = pictures("ink"), pictures("a mosaic"), pictures("ink", "a mosaic", seconds=0.16)
    for index in (*range(4), 7, 8):
        torch.testing.assert_close(turned[index], (first if index < 4 else second)[index], atol=1, rtol=0)
    for index in (4, 5, 6):
        assert (turned[index] - first[index]).abs().max() > 1
        assert (turned[index] - second[index]).abs().max() > 1
