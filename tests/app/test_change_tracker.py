"""What the engine is told of changes: right after drops and changes of the way a tensor comes about."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np

from app.capture import prepare
from app.change_tracker import ChangeTracker
from app.changes import Changes
from app.drawing import Brush, Drawing
from app.frame import Frame
from app.messages import Captured
from app.session import Session
from app.settings import Settings
from app.sources.canvas import CanvasSource
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, ListSink, loader_of

SIZE = (64, 64)


class Painter:
    """A drawing, and its frames as the capture thread would hand them on."""

    def __init__(self) -> None:
        self.drawing = Drawing(128, 96)
        self.settings = Settings(fit="stretch")
        self.epoch = 1
        self._changes: Changes | None = None
        self._revision: int | None = None

    def paint(self, x: float, y: float) -> None:
        self.drawing.stroke([(x, y)], Brush((0, 0, 0), size=8))

    def frame(self) -> Captured:
        look = self.drawing.look(self._revision)
        self._revision = look.revision
        self._changes = Changes(0) if self._changes is None else self._changes.followed_by(look.changed)
        tensor = prepare(look.pixels, *SIZE, self.settings.fit, self.settings.mirror)
        frame = Frame(self._changes.index, 0.0, look.pixels, tensor, changes=self._changes)
        return Captured(frame, self.settings, self.epoch, live=True)


def differs_outside(before: Captured, after: Captured, places: list[tuple[int, int, int, int]]) -> bool:
    assert before.frame.tensor is not None
    assert after.frame.tensor is not None
    differs = (before.frame.tensor != after.frame.tensor).any(dim=0).numpy().copy()
    for left, top, right, bottom in places:
        differs[top:bottom, left:right] = False
    return bool(np.any(differs))


def test_changes_are_told_since_the_frame_that_was_taken():
    painter, tracker = Painter(), ChangeTracker()
    first = painter.frame()
    assert tracker.changed([first], 1) is None
    tracker.took([first], 1)
    painter.paint(30, 30)
    painter.frame()  # dropped on its way
    painter.paint(100, 70)
    last = painter.frame()
    found = tracker.changed([last], 1)
    assert found is not None
    (places,) = found
    assert places is not None
    assert not differs_outside(first, last, places)
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in places) < 0.3 * SIZE[0] * SIZE[1]
    tracker.took([last], 1)
    assert tracker.changed([painter.frame()], 1) == [[]]


def test_each_place_of_a_group_is_compared_with_its_own_frame():
    painter, tracker = Painter(), ChangeTracker()
    group = [painter.frame(), painter.frame()]
    tracker.took(group, 2)
    painter.paint(30, 30)
    third = painter.frame()
    found = tracker.changed([third], 2)  # a last group, filled up with its last frame
    assert found is not None
    assert len(found) == 2
    for before, places in zip(group, found, strict=True):
        assert places
        assert not differs_outside(before, third, places)


def test_nothing_is_told_where_tensors_cannot_be_compared():
    painter, tracker = Painter(), ChangeTracker()
    tracker.took([painter.frame()], 1)
    for change in ({"mirror": True}, {"fit": "crop"}):
        painter.settings = replace(Settings(fit="stretch"), **change)
        assert tracker.changed([painter.frame()], 1) is None
    painter.settings = Settings(fit="stretch")
    assert tracker.changed([painter.frame()], 1) == [[]]
    assert tracker.changed([painter.frame()], 2) is None
    painter.epoch = 2
    assert tracker.changed([painter.frame()], 1) is None
    painter.epoch = 1
    tracker.forget()
    assert tracker.changed([painter.frame()], 1) is None


def test_a_source_that_knows_nothing_tells_nothing():
    painter, tracker = Painter(), ChangeTracker()
    one = painter.frame()
    plain = replace(one, frame=replace(one.frame, changes=None))
    tracker.took([plain], 1)
    assert tracker.changed([plain], 1) is None


def test_the_engine_of_a_session_is_told():
    drawing, engine, told = Drawing(64, 64), FakeEngine(), threading.Event()

    def paint(index: int) -> None:
        if index >= 3 and not drawing.can_undo:  # a busy machine may drop any one frame
            drawing.stroke([(20, 20)], Brush(size=6))
        if any(changed and changed[0] for changed in engine.changed):
            told.set()

    source = CanvasSource(drawing, fps=200)
    with Session(source, Settings(), [ListSink(paint)], loader=loader_of(engine)):
        assert told.wait(SAFETY_SECONDS)
    assert engine.changed[0] is None
    (places,) = next(changed for changed in engine.changed if changed and changed[0])
    left, top, right, bottom = places[0]
    assert 12 <= left <= 17 <= 23 <= right <= 28
    assert 12 <= top <= 17 <= 23 <= bottom <= 28
