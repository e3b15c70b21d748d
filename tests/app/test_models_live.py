"""Models and LoRAs in a running session: recommendations, files read beside, switches."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from app.engine import Loaded, ModelFacts
from app.model_defaults import adapted
from app.session import Session
from app.settings import Settings
from app.status import SessionState
from pipeline import ModelError, Stream, StreamConfig
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, FakeSource, ListSink, loader_of
from tests.app.fakes import until as until_done
from tests.tiny_model import write_tiny_model

TURBO = {"steps": 1, "solver": "lcm", "guidance": "none"}
PLAIN = {"steps": 10, "solver": "dpmpp-2m", "guidance": "full", "guidance_scale": 5.0}


_PIXEL = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def facts(defaults: dict[str, object]) -> ModelFacts:
    return ModelFacts("fake", "cpu", "float32", "eager", 64, defaults=defaults)


def test_a_model_starts_with_what_it_recommends() -> None:
    first = adapted(StreamConfig(strength=0.3), PLAIN)
    assert (first.steps, first.solver, first.guidance, first.strength) == (10, "dpmpp-2m", "full", 0.3)


@pytest.mark.parametrize("chosen", [(), ("steps",)])
def test_a_session_takes_what_the_first_model_recommends(chosen: tuple[str, ...]) -> None:
    engine, taken = FakeEngine(), ListSink()
    with Session(
        FakeSource(count=3), sinks=[taken], loader=loader_of(engine, facts=facts(PLAIN)), once=True, chosen=chosen
    ) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert session.settings.stream.solver == "dpmpp-2m"
    assert session.settings.stream.steps == (1 if chosen else 10)
    assert engine.config == session.settings.stream
    assert any(notice.message.startswith("As suits fake: ") for notice in session.notices)
    assert taken.indices == [0, 1, 2]


def test_a_lora_of_few_steps_brings_its_solver_and_takes_it_away_again() -> None:
    engine = FakeEngine()
    taken, source = ListSink(), FakeSource(count=None, live=True, script=breathe)
    loader = loader_of(engine, facts=facts(PLAIN))
    with Session(source, Settings(width=64, height=64), [taken], loader=loader) as session:
        until(session, "As suits fake")
        plain = session.settings
        for name, solver, steps in (
            ("Hyper-SD15-8steps-lora.safetensors", "tcd", 8),
            ("tcd-sd15-lora.safetensors", "tcd", 4),
            ("sdxl_lightning_2step.safetensors:0.9", "euler", 2),
        ):
            session.update(replace(plain, stream=replace(plain.stream, loras=name)))
            stream = session.settings.stream
            assert (stream.solver, stream.steps, stream.guidance, stream.loras) == (solver, steps, "none", name)
            session.update(replace(session.settings, stream=replace(stream, loras="")))
            assert session.settings == plain
        session.update(replace(plain, stream=replace(plain.stream, loras="detail.safetensors")))
        assert session.settings.stream.solver == "dpmpp-2m"
    assert any(notice.message.startswith("As suits these LoRAs: ") for notice in session.notices)


def live_session(engine: FakeEngine) -> tuple[Session, ListSink]:
    taken = ListSink()
    source = FakeSource(count=None, live=True, script=breathe)
    return Session(source, Settings(width=64, height=64), [taken], loader=loader_of(engine)), taken


def breathe(_: int) -> None:
    """A live source's pace."""
    time.sleep(0.005)


def until(session: Session, words: str) -> None:
    """Sleep until a notice says ``words``."""
    for _ in range(2000):
        if any(words in notice.message for notice in session.notices):
            return
        time.sleep(0.01)
    raise AssertionError([notice.message for notice in session.notices])


def test_a_lora_is_read_beside_the_stream() -> None:
    engine = FakeEngine()
    may_read, reading = threading.Event(), threading.Event()

    def slowly(_: StreamConfig) -> None:
        reading.set()
        may_read.wait(SAFETY_SECONDS)

    engine.on_prepare = slowly
    session, taken = live_session(engine)
    with session:
        session.update(replace(session.settings, stream=StreamConfig(loras="a:0.5", strength=0.4)))
        assert reading.wait(SAFETY_SECONDS)
        before = len(taken.frames)
        until_done(lambda: len(taken.frames) >= before + 3)  # frames go on, the other settings with them
        assert (engine.config.loras, engine.config.strength) == ("", 0.4)
        may_read.set()
        until(session, "a:0.5 is read")
        until_done(lambda: engine.config.loras == "a:0.5")
    assert session.state is SessionState.STOPPED


def test_a_lora_that_cannot_be_had_is_said_once_and_the_stream_goes_on() -> None:
    engine = FakeEngine()

    def refuse(_: StreamConfig) -> None:
        raise ModelError("a.safetensors is cut off; get the file again")

    engine.on_prepare = refuse
    session, taken = live_session(engine)
    with session:
        session.update(replace(session.settings, stream=StreamConfig(loras="a.safetensors")))
        until(session, "a.safetensors is cut off; get the file again; the picture goes on without")
        before = len(taken.frames)
        until_done(lambda: len(taken.frames) >= before + 5)
        assert session.state is SessionState.RUNNING
        assert len(session.notices) == 1
        assert engine.config.loras == ""


def test_a_file_waits_for_its_lora() -> None:
    engine, taken = FakeEngine(), ListSink()
    settings = Settings(stream=StreamConfig(loras="a"))
    with Session(FakeSource(count=4), settings, [taken], loader=loader_of(engine), once=True) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert engine.config.loras == "a"
    assert taken.indices == [0, 1, 2, 3]


def test_ten_switches_hold_one_model(tmp_path: Path) -> None:
    """The real loader and engine; a damaged model among them leaves the one before."""
    from app.engine import load_engine

    folders = [str(write_tiny_model(tmp_path / f"model-{seed}", seed=seed)) for seed in range(2)]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text("{")
    unets: list[weakref.ref[Any]] = []

    def load(settings: Settings, *_: object) -> Loaded:
        loaded = load_engine(settings)
        assert isinstance(loaded.engine, Stream)
        unets.append(weakref.ref(loaded.engine.model.unet))
        return loaded

    taken = ListSink()
    source = FakeSource(count=None, live=True, script=breathe)
    settings = Settings(model=folders[0], width=64, height=64, acceleration="eager")
    held = []
    with Session(source, settings, [taken], loader=load) as session:
        for turn in range(10):
            wanted = str(tmp_path / "broken") if turn == 5 else folders[(turn + 1) % 2]
            session.set_model(wanted)
            if turn == 5:
                until(session, "the model before it goes on")
                continue
            name = Path(wanted).name
            for _ in range(2000):
                if session.model is not None and session.model.name == name:
                    break
                time.sleep(0.01)
            assert session.model is not None
            assert session.model.name == name
            gc.collect()
            held.append(sum(unet() is not None for unet in unets))
        assert session.state is SessionState.RUNNING
    assert held == [1] * 9


def test_what_can_be_had_is_had_beside_what_cannot() -> None:
    """And together with what it needs: the pictures to look like, and what shows them to the model."""
    engine = FakeEngine()

    def refuse(config: StreamConfig) -> None:
        if config.keep_shape:
            raise ModelError("there is no T2I-Adapter for fake")
        if bool(config.look_like) != bool(config.look_model):
            raise ModelError("pictures and IP-Adapter come together")

    engine.on_prepare = refuse
    session, _ = live_session(engine)
    with session:
        wanted = StreamConfig(loras="a", keep_shape="canny:0.8", look_like="face.png", look_model="ip.safetensors")
        session.update(replace(session.settings, stream=wanted))
        until_done(lambda: engine.config == replace(wanted, keep_shape=""))
        notes = session.owner.standing.notes()
        assert notes == {"keep_shape": "Not in force: there is no T2I-Adapter for fake."}
        session.update(replace(session.settings, stream=replace(wanted, strength=0.3)))
        until_done(lambda: engine.config == replace(wanted, keep_shape="", strength=0.3))
        session.update(replace(session.settings, stream=replace(wanted, keep_shape="")))
        until_done(lambda: session.owner.standing.notes() == {})


def test_a_session_starts_without_the_file_that_is_gone_and_a_film_does_not(tmp_path: Path) -> None:
    from app.engine import load_engine

    settings = Settings(
        model=str(write_tiny_model(tmp_path / "model")),
        width=64,
        height=64,
        stream=StreamConfig(loras=str(tmp_path / "gone.safetensors")),
        acceleration="eager",
    )
    taken = ListSink()
    with Session(FakeSource(count=None, live=True, script=breathe), settings, [taken], loader=load_engine) as session:
        until_done(lambda: len(taken.frames) >= 3)
        until_done(lambda: "gone.safetensors" in session.owner.standing.notes().get("loras", ""))
        assert session.owner.standing.chosen["loras"] == settings.stream.loras
    film = Session(FakeSource(count=3), settings, [ListSink()], loader=load_engine, once=True)
    with film:
        assert film.wait(SAFETY_SECONDS).state is SessionState.FAILED


def test_what_the_embedded_model_cannot_follow_is_known_before_it_is_asked_for(tmp_path: Path) -> None:
    from app.engine import load_engine

    loaded = load_engine(Settings(acceleration="eager", device="cpu"))
    assert set(loaded.facts.unsupported) == {"keep_shape", "look_like"}
    for name, value in (("keep_shape", "canny:0.8"), ("look_like", str(tmp_path / "face.png"))):
        (tmp_path / "face.png").write_bytes(_PIXEL)
        with pytest.raises(ModelError) as refused:
            loaded.engine.prepare(StreamConfig(**{name: value}))  # type: ignore[arg-type]
        said = loaded.facts.unsupported[name]
        assert said.endswith(".")
        assert f"{refused.value}.".lower() == said.lower()
    loaded.release()
