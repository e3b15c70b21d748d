"""Settings that change two hundred times a second, prompts that nobody foresaw, and the user's files, torn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.prompt_history import PromptHistory, load_history, save_history
from app.settings import Settings
from app.snapshot import SnapshotError, save_snapshot, settings_of_snapshot
from app.status import SessionState
from pipeline.config import StreamConfig
from pipeline.stream import Stream
from tests.app.fakes import FakeEngine, FakeSource, ListSink, session_of, until
from tests.tiny_model import tiny_model
from ui.state import WindowState, load_state, save_state

PROMPTS = {
    "empty": "",
    "spaces": " \t\n ",
    "very long": "ink " * 25_000,
    "one long word": "a" * 100_000,
    "controls": "ink \x00\x01\x1b[31m\x7f",
    "right to left": "\u202eحبر\u202c דיו",
    "emoji": "👩🏽‍🎨🖌️" * 50,
    "weights beyond numbers": "(a:1e400) (b:-1e400)",
    "no number": "(a:nan) (b:inf)",
    "negative weights": "a::-1 b::-1",
    "brackets without an end": "((((((((((a" * 100,
    "only brackets": "()[]{}" * 1000,
}


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(tiny_model(), StreamConfig(prompt="ink"))


@pytest.mark.parametrize("kind", list(PROMPTS))
def test_whatever_is_typed_gives_a_picture_and_leaves_no_trace(stream: Stream, kind: str) -> None:
    frame = torch.full((3, 32, 32), 0.5)
    plain = replace(stream.config, prompt="ink")
    stream.configure(plain)
    before = stream(frame, tags=[0]).image
    stream.configure(replace(plain, prompt=PROMPTS[kind]))
    assert torch.isfinite(stream(frame, tags=[1]).image).all()
    stream.configure(plain)
    assert torch.equal(stream(frame, tags=[2]).image, before)


def test_two_hundred_changes_a_second_are_all_taken_and_the_last_one_holds() -> None:
    choose = random.Random(3)
    engine, taken = FakeEngine(), ListSink()
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    prompts = list(PROMPTS.values())
    with session_of(source, taken, engine=engine, once=False) as session:
        for number in range(500):
            plain = session.settings
            session.update(
                replace(
                    plain,
                    width=64 + 8 * choose.randrange(4),
                    height=64,
                    mirror=choose.random() < 0.5,
                    steadiness=choose.random(),
                    stream=StreamConfig(
                        prompt=choose.choice(prompts),
                        steps=choose.randrange(1, 51),
                        strength=round(choose.uniform(0.05, 1), 2),
                        seed=number,
                    ),
                )
            )
            time.sleep(0.005)
            assert session.state in (SessionState.RUNNING, SessionState.STARTING, SessionState.LOADING)
        wanted = session.settings
        until(lambda: engine.config == wanted.stream)
        before = len(taken.frames)
        until(lambda: len(taken.frames) > before + 2)
        assert taken.frames[-1].pixels.shape[1] == wanted.width
        assert session.state is SessionState.RUNNING


def torn(whole: bytes, seed: int, flips: int) -> list[bytes]:
    """Cut at every tenth byte, and with one bit the other way round."""
    choose = random.Random(seed)
    found = [whole[:end] for end in range(0, len(whole), 10)]
    for _ in range(flips):
        flipped = bytearray(whole)
        flipped[choose.randrange(len(flipped))] ^= 1 << choose.randrange(8)
        found.append(bytes(flipped))
    return found


def test_torn_snapshots_are_pictures_with_settings_or_a_sentence(tmp_path: Path) -> None:
    settings = Settings(stream=StreamConfig(prompt="ink and 墨"))
    path = save_snapshot(np.zeros((8, 8, 3), np.uint8), settings, folder=tmp_path)
    for content in torn(path.read_bytes(), 1, 300):
        path.write_bytes(content)
        said = ""
        try:
            found, notes = settings_of_snapshot(path)
            assert isinstance(found, Settings)
            assert all(notes)
        except SnapshotError as error:
            said = str(error)
        assert not said or said.endswith(".")


def test_a_torn_window_state_and_torn_prompts_are_taken_as_far_as_they_make_sense(tmp_path: Path) -> None:
    path = tmp_path / "window.json"
    save_state(WindowState(geometry="abc=", folded=("Look",), on_top=True), path)
    for content in torn(path.read_bytes(), 2, 200):
        path.write_bytes(content)
        assert isinstance(load_state(path), WindowState)
    save_history(PromptHistory(["ink", "墨", "a red house"]), path)
    for content in torn(path.read_bytes(), 3, 200):
        path.write_bytes(content)
        assert all(isinstance(prompt, str) for prompt in load_history(path).prompts)


@pytest.mark.parametrize("keep", [save_state, save_history])
def test_what_cannot_be_kept_raises_what_it_says_and_keeps_the_old(
    keep: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    value = WindowState() if keep is save_state else PromptHistory(["ink"])
    keep(value, path)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        keep(value, path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["kept.json"]
