"""Swaps of the model under trouble: minds changed on the way, and memory for one model only."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

import pytest
import torch

from app.engine import Loaded
from app.fetching import FetchCancelled, Progress, fetched_words
from app.session import Session
from app.settings import Settings
from app.status import SessionState
from pipeline.out_of_memory import ran_out_of_memory
from tests.app.fakes import FACTS, SAFETY_SECONDS, FakeEngine, FakeSource, ListSink


class Shelf:
    """A loader that keeps account of what is in memory.

    Args:
        room: how many models fit into it at once.
        missing: models that cannot be loaded at all.
        remote: models that are fetched first, in as many pieces as it takes until someone opens their gate.
    """

    def __init__(self, room: int = 2, missing: tuple[str, ...] = (), remote: tuple[str, ...] = ()) -> None:
        self.room, self.missing, self.remote = room, missing, remote
        self.loads: list[str] = []
        self.held: list[str] = []
        self.most = 0
        self.gates: dict[str, threading.Event] = {}
        self.asked: dict[str, threading.Event] = {}

    def gate(self, model: str) -> threading.Event:
        """Have loads of ``model`` wait until the event is set."""
        self.asked[model] = threading.Event()
        return self.gates.setdefault(model, threading.Event())

    def __call__(self, settings: Settings, progress: Progress) -> Loaded:
        name = settings.model
        self.loads.append(name)
        if name in self.remote:
            self._fetch(name, progress)
        elif name in self.gates:
            self.asked[name].set()
            assert self.gates[name].wait(SAFETY_SECONDS)
        if len(self.held) >= self.room or name in self.missing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.held.append(name)
        self.most = max(self.most, len(self.held))
        facts = replace(FACTS, name=name)
        return Loaded(FakeEngine(settings.stream), facts, release=lambda: self.held.remove(name))

    def _fetch(self, name: str, progress: Progress) -> None:
        until = time.monotonic() + SAFETY_SECONDS
        for piece in itertools.count(1):
            progress(min(piece, 9) * 10_000_000, 100_000_000)
            self.asked[name].set()
            if self.gates[name].wait(0.002):
                break
            assert time.monotonic() < until
        progress(100_000_000, 100_000_000)


def live_session(shelf: Shelf, window: ListSink) -> Session:
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.001))
    return Session(source, Settings(model="a"), [window], loader=shelf)


def wait_for_model(session: Session, name: str) -> None:
    done = threading.Event()
    watch = ListSink(lambda _: done.set() if session.model and session.model.name == name else None)
    session.add_sink(watch)
    assert done.wait(SAFETY_SECONDS), (name, session.status, session.notices)
    session.remove_sink(watch)


def wait_for_loaders() -> None:
    loaders = [thread for thread in threading.enumerate() if thread.name == "vitrail-model"]
    for thread in loaders:
        thread.join(SAFETY_SECONDS)
    assert not any(thread.is_alive() for thread in loaders)


def let_frames_pass(session: Session) -> None:
    """Enough of them that the worker has met the latest settings."""
    shown = threading.Semaphore(0)
    watch = ListSink(lambda _: shown.release())
    session.add_sink(watch)
    for _ in range(4):
        assert shown.acquire(timeout=SAFETY_SECONDS)
    session.remove_sink(watch)


def test_what_the_engine_says_of_new_settings_is_shown() -> None:
    engine = FakeEngine()
    engine.notes = ["the UNet runs on whole pictures"]
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.001))
    with Session(source, Settings(), [ListSink()], loader=lambda *_: Loaded(engine, FACTS)) as session:
        let_frames_pass(session)
        session.update(replace(session.settings, stream=replace(session.settings.stream, sparse=True)))
        let_frames_pass(session)
    assert [notice.message for notice in session.notices] == engine.notes


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


def test_a_download_tells_how_far_it_is_and_ends_where_the_mind_is_changed() -> None:
    shelf = Shelf(remote=("b",))
    gate = shelf.gate("b")
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        assert session.fetched is None
        session.set_model("b")
        assert shelf.asked["b"].wait(SAFETY_SECONDS)
        assert session.loading
        words = fetched_words("b", session.fetched)
        assert words.startswith("Fetching b: ")
        assert words.endswith("0 %)")
        session.set_model("a")
        given_up = threading.Event()
        watch = ListSink(lambda _: given_up.set() if not session.loading else None)
        session.add_sink(watch)
        assert given_up.wait(SAFETY_SECONDS)  # although its gate is shut
        let_frames_pass(session)
        assert session.fetched is None
        assert session.notices == []  # as it was wished
        gate.set()
        session.set_model("b")
        wait_for_model(session, "b")
    assert shelf.loads == ["a", "b", "b"]
    assert shelf.held == []


def test_a_download_that_is_wanted_after_all_goes_on() -> None:
    shelf = Shelf(remote=("b",))
    gate = shelf.gate("b")
    with live_session(shelf, ListSink()) as session:
        wait_for_model(session, "a")
        session.set_model("b")
        assert shelf.asked["b"].wait(SAFETY_SECONDS)
        session.cancel_loading()
        second = threading.Event()
        watch = ListSink(lambda _: second.set() if shelf.loads.count("b") == 2 else None)
        session.add_sink(watch)
        assert second.wait(SAFETY_SECONDS)  # the settings still say b
        gate.set()
        wait_for_model(session, "b")
        assert session.notices == []


def test_the_first_model_may_be_given_up_while_it_is_fetched() -> None:
    shelf = Shelf(remote=("a",))
    shelf.gate("a")
    with live_session(shelf, ListSink()) as session:
        assert shelf.asked["a"].wait(SAFETY_SECONDS)
        session.cancel_loading()
        status = session.wait(SAFETY_SECONDS)
    assert status.state is SessionState.FAILED
    assert status.message == "The download of a was cancelled; what has arrived is kept."
    assert isinstance(status.error, FetchCancelled)


def test_a_stop_ends_a_download() -> None:
    shelf = Shelf(remote=("a",))
    shelf.gate("a")
    session = live_session(shelf, ListSink())
    session.start()
    assert shelf.asked["a"].wait(SAFETY_SECONDS)
    assert session.stop()
    wait_for_loaders()


def test_a_model_that_comes_in_after_the_end_is_released() -> None:
    shelf = Shelf()
    gate = shelf.gate("a")
    session = live_session(shelf, ListSink())
    session.start()
    assert shelf.asked["a"].wait(SAFETY_SECONDS)
    assert session.stop()
    gate.set()
    wait_for_loaders()
    assert shelf.most == 1
    assert shelf.held == []


def test_how_far_a_download_is_in_words() -> None:
    assert fetched_words("a/b", None) == ""
    assert fetched_words("a/b", (5_400_000, 0)) == "Fetching a/b: 5 MB"
    assert fetched_words("a/b", (340_000_000, 1_700_000_000)) == "Fetching a/b: 340 of 1,700 MB (20 %)"
    assert fetched_words("a/b", (7, 7)) == ""  # all is there: it is being read


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
        let_frames_pass(session)  # none passes before the old one is there again
        assert "loaded again" in session.notices[1].message
    assert shelf.loads == ["a", "huge", "huge", "a"]  # and not tried with every frame
    assert shelf.held == []


def test_what_comes_up_beside_an_engine_is_told_once() -> None:
    news = [["openvino cannot run the unet; PyTorch does, more slowly: no room"]]

    def load(settings: Settings, _: Progress) -> Loaded:
        return Loaded(FakeEngine(settings.stream), FACTS, news=lambda: news.pop() if news else [])

    with Session(FakeSource(count=None, live=True), sinks=[ListSink()], loader=load) as session:
        wait_for_model(session, "fake")
        let_frames_pass(session)
        (notice,) = session.notices
    assert notice.message.startswith("openvino cannot run the unet")


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
