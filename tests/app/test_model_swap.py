"""Swaps of the model under trouble: minds changed on the way, and memory for one model only."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch

from app.engine import Loaded
from app.session import Session
from app.settings import Settings
from app.status import SessionState
from app.tensors import ran_out_of_memory
from tests.app.fakes import FACTS, SAFETY_SECONDS, FakeEngine, FakeSource, ListSink


class Shelf:
    """A loader that keeps account of what is in memory.

    Args:
        room: how many models fit into it at once.
        missing: models that cannot be loaded at all.
    """

    def __init__(self, room: int = 2, missing: tuple[str, ...] = ()) -> None:
        self.room, self.missing = room, missing
        self.loads: list[str] = []
        self.held: list[str] = []
        self.most = 0
        self.gates: dict[str, threading.Event] = {}
        self.asked: dict[str, threading.Event] = {}

    def gate(self, model: str) -> threading.Event:
        """Have loads of ``model`` wait until the event is set."""
        self.asked[model] = threading.Event()
        return self.gates.setdefault(model, threading.Event())

    def __call__(self, settings: Settings) -> Loaded:
        name = settings.model
        self.loads.append(name)
        if name in self.gates:
            self.asked[name].set()
            assert self.gates[name].wait(SAFETY_SECONDS)
        if len(self.held) >= self.room or name in self.missing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.held.append(name)
        self.most = max(self.most, len(self.held))
        facts = replace(FACTS, name=name)
        return Loaded(FakeEngine(settings.stream), facts, release=lambda: self.held.remove(name))


def live_session(shelf: Shelf, window: ListSink) -> Session:
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.001))
    return Session(source, Settings(model="a"), [window], loader=shelf)


def wait_for_model(session: Session, name: str) -> None:
    done = threading.Event()
    watch = ListSink(lambda _: done.set() if session.model and session.model.name == name else None)
    session.add_sink(watch)
    assert done.wait(SAFETY_SECONDS), (name, session.status, session.notices)
    session.remove_sink(watch)


def let_frames_pass(session: Session) -> None:
    """Enough of them that the worker has met the latest settings."""
    shown = threading.Semaphore(0)
    watch = ListSink(lambda _: shown.release())
    session.add_sink(watch)
    for _ in range(4):
        assert shown.acquire(timeout=SAFETY_SECONDS)
    session.remove_sink(watch)


def test_minds_changed_on_the_way_load_one_model_at_a_time() -> None:
    shelf = Shelf()
    gate = shelf.gate("b")
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        session.set_model("b")
        assert shelf.asked["b"].wait(SAFETY_SECONDS)
        for model in ("c", "d"):
            session.set_model(model)
            let_frames_pass(session)
        gate.set()
        wait_for_model(session, "d")
        assert session.notices == []
    assert shelf.loads == ["a", "b", "d"]  # nobody waited for c any more
    assert shelf.most == 2
    assert shelf.held == []


def test_going_back_to_the_model_that_serves_loads_nothing() -> None:
    shelf = Shelf()
    gate = shelf.gate("b")
    freed = threading.Event()
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        session.set_model("b")
        assert shelf.asked["b"].wait(SAFETY_SECONDS)
        session.set_model("a")
        let_frames_pass(session)
        gate.set()
        watch = ListSink(lambda _: freed.set() if shelf.most == 2 and shelf.held == ["a"] else None)
        session.add_sink(watch)
        assert freed.wait(SAFETY_SECONDS)
        assert session.model is not None
        assert session.model.name == "a"
        session.set_model("b")  # and now it is meant
        wait_for_model(session, "b")
    assert shelf.loads == ["a", "b", "b"]


def test_where_two_models_do_not_fit_the_old_one_goes_first() -> None:
    shelf = Shelf(room=1)
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        session.set_model("b")
        wait_for_model(session, "b")
        assert session.state is SessionState.RUNNING
        (notice,) = session.notices
    assert "the picture stops until b is loaded" in notice.message
    assert shelf.loads == ["a", "b", "b"]
    assert shelf.held == []


def test_a_model_that_does_not_fit_even_alone_brings_the_old_one_back() -> None:
    shelf = Shelf(room=1, missing=("huge",))
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        session.set_model("huge")
        told = threading.Event()
        watch = ListSink(lambda _: told.set() if len(session.notices) == 2 else None)
        session.add_sink(watch)
        assert told.wait(SAFETY_SECONDS)
        wait_for_model(session, "a")
        assert "loaded again" in session.notices[1].message
    assert shelf.loads == ["a", "huge", "huge", "a"]  # and not tried with every frame
    assert shelf.held == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("sizes do not match"), False),
        (None, False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_errors(error: Exception | None, expected: bool) -> None:
    assert ran_out_of_memory(error) is expected
    wrapped = ValueError("the model cannot be loaded")
    wrapped.__cause__ = error
    assert ran_out_of_memory(wrapped) is expected
