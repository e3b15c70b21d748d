"""Memory runs out in a real model: a live stream steps down and goes on, a rendered file loses nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.cli import main
from app.engine import Loaded, load_engine
from app.fetching import Progress
from app.memory import MemoryShort, Retake, stepped_down
from app.session import Session
from app.settings import Settings
from app.sources.testcard import TestCardSource
from app.standing import NO_LIMITS
from app.status import SessionState, Status
from pipeline import Stream, StreamConfig
from tests.app.fakes import SAFETY_SECONDS, ListSink, until
from tests.app.media import cards, write_clip
from tests.tiny_model import write_tiny_model

FRAMES = 9
CHOSEN = ("steps", "guidance", "solver")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@dataclass
class Card:
    """A loader of real engines whose networks run out of memory as on a card with room for ``room`` latent pixels.

    Args:
        room: what one call of the UNet may be of, rows times latent pixels.
        weights: whether the weights fit on it.
        until: calls after which there is room for everything.
    """

    room: int = 10**9
    weights: bool = True
    until: int = 10**9
    calls: int = 0

    def __call__(self, settings: Settings, progress: Progress | None = None) -> Loaded:
        if not self.weights and settings.memory != "offload":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        loaded = load_engine(settings, progress)
        assert isinstance(loaded.engine, Stream)
        unet = loaded.engine.model.unet

        def before(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            self.calls += 1
            if self.calls < self.until and given[0].shape[0] * given[0].shape[2] * given[0].shape[3] > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        unet.register_forward_pre_hook(before)
        return loaded


def settings_for(folder: Path, **changes: Any) -> Settings:
    stream = StreamConfig(prompt="ink", steps=3, solver="ddim", guidance="full", guidance_scale=1.5)
    plain = Settings(stream=stream, model=str(folder), device="cpu", dtype="float32", acceleration="eager")
    return replace(plain, width=64, height=64, **changes)


def render(card: Card, settings: Settings) -> tuple[ListSink, Session, Status]:
    taken, source = ListSink(), TestCardSource(width=64, height=64, frames=FRAMES)
    with Session(source, settings, [taken], loader=card, once=True, chosen=CHOSEN) as session:
        status = session.wait(2 * SAFETY_SECONDS)
    return taken, session, status


def messages(session: Session) -> list[str]:
    return [notice.message for notice in session.notices if "Memory" in notice.message or "memory" in notice.message]


SLICED = "Memory is short: the model takes its work in slices, which is slower."


@pytest.mark.parametrize("frame_buffer", [1, 2])
def test_a_rendered_file_is_whole_and_the_same(folder: Path, frame_buffer: int) -> None:
    """Room for two rows of 8x8: it is met in the first call, with three steps and full guidance."""
    settings = settings_for(folder, frame_buffer=frame_buffer)
    expected, *_ = render(Card(), settings)
    taken, session, status = render(Card(room=2 * 64), settings)
    assert status.state is SessionState.ENDED
    assert taken.indices == expected.indices == list(range(FRAMES))
    for found, wanted in zip(taken.frames, expected.frames, strict=True):
        assert abs(found.pixels.astype(int) - wanted.pixels.astype(int)).max() <= 1
    assert messages(session)[-1] == SLICED
    assert (session.settings.memory, session.settings.frame_buffer) == ("sliced", 1)
    assert len(messages(session)) == frame_buffer


def test_memory_that_runs_out_on_the_way_loses_no_frame(folder: Path) -> None:
    """In the middle of the clip, with frames in flight, and once more while they are run again."""
    settings = settings_for(folder)
    expected, *_ = render(Card(), settings)

    class Shrinking(Card):
        def __call__(self, settings: Settings, progress: Progress | None = None) -> Loaded:
            loaded = super().__call__(settings, progress)
            calls = [0]

            def before(*_: object) -> None:
                calls[0] += 1
                if calls[0] in (4, 5):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

            model = loaded.engine.model  # pyright: ignore[reportAttributeAccessIssue]
            model.autoencoder.module.decoder.register_forward_pre_hook(before)
            return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.memory.has_own_memory", lambda _: True)
        taken, session, status = render(Shrinking(), settings)
    assert status.state is SessionState.ENDED
    assert taken.indices == list(range(FRAMES))
    for found, wanted in zip(taken.frames, expected.frames, strict=True):
        assert abs(found.pixels.astype(int) - wanted.pixels.astype(int)).max() <= 1
    assert session.settings.memory == "offload"
    assert len(messages(session)) == 2


def test_a_file_that_never_fits_ends_in_one_sentence(folder: Path) -> None:
    taken, _, status = render(Card(room=1), settings_for(folder))
    assert status.state is SessionState.FAILED
    assert isinstance(status.error, MemoryShort)
    assert status.message.startswith("There is too little memory for pictures of 64x64")
    assert taken.closed == 1


def test_the_command_line_says_it_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", cards(4))
    defaults = Session.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "loader", Card(room=1))
    size = ["--width", "64", "--height", "64", "--steps", "1"]
    chosen = ["--model", str(folder), "--device", "cpu", "--acceleration", "eager", "--prompt", "ink"]
    assert main(["render", str(clip), str(tmp_path / "out.mp4"), *size, *chosen]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("vitrail: There is too little memory for pictures of 64x64")
    assert not any("Traceback" in line for line in said)


def test_a_live_stream_steps_down_to_what_fits(folder: Path) -> None:
    """Room for two rows of 32x32 latents: 512x512 pictures are sliced first, then smaller."""
    shown, taken = threading.Event(), ListSink(script=lambda _: shown.set())
    source = TestCardSource(width=64, height=64, fps=200, live=True)
    settings = replace(settings_for(folder, frame_buffer=2), width=512, height=512)
    card = Card(room=2 * 32 * 32)
    with Session(source, settings, [taken], loader=card, chosen=CHOSEN) as session:
        assert shown.wait(2 * SAFETY_SECONDS), session.status
        assert session.state is SessionState.RUNNING
        now = session.settings
        chosen = session.owner.standing.chosen
    assert (now.width, now.height, now.frame_buffer, now.memory) == (216, 216, 1, "sliced")
    assert (chosen["width"], chosen["height"], chosen["frame_buffer"]) == (512, 512, 2)  # these are the person's own
    assert messages(session) == [
        "Memory is short: frames go through the model one at a time.",
        SLICED,
        "Memory is short: the picture is made 384x384 instead of 512x512.",
        "Memory is short: the picture is made 288x288 instead of 384x384.",
        "Memory is short: the picture is made 216x216 instead of 288x288.",
    ]
    assert taken.frames[0].pixels.shape == (216, 216, 3)


def test_a_live_stream_waits_where_nothing_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.memory.WAIT_SECONDS", 0.02)
    shown, taken = threading.Event(), ListSink(script=lambda _: shown.set())
    source = TestCardSource(width=64, height=64, fps=200, live=True)
    card = Card(room=1, until=12)  # then another program ends
    with Session(source, settings_for(folder), [taken], loader=card) as session:
        assert shown.wait(2 * SAFETY_SECONDS), session.status
        assert session.state is SessionState.RUNNING
    assert messages(session)[0] == SLICED
    assert messages(session)[1].startswith("There is too little memory for pictures of 64x64")
    assert messages(session)[1].endswith("It is tried again every few seconds.")
    assert len(messages(session)) == 2


def test_a_user_may_ask_for_all_of_it_again(folder: Path) -> None:
    card, taken = Card(room=2 * 64), ListSink()
    source = TestCardSource(width=64, height=64, fps=200, live=True)
    seen: list[str] = []

    class Telling(Card):
        def __call__(self, settings: Settings, progress: Progress | None = None) -> Loaded:
            loaded = super().__call__(settings, progress)
            save = loaded.engine.save_memory
            loaded.engine.save_memory = lambda mode: seen.append(mode) or save(mode)  # type: ignore[method-assign]
            return loaded

    card = Telling(room=2 * 64)
    with Session(source, settings_for(folder), [taken], loader=card, chosen=CHOSEN) as session:
        until(lambda: session.settings.memory == "sliced" and len(taken.frames) > 2)
        card.room = 10**9
        session.update(replace(session.settings, memory="full"))
        before = len(taken.frames)
        until(lambda: seen[-1:] == ["full"] and len(taken.frames) > before + 8)
        assert session.state is SessionState.RUNNING
    assert seen == ["sliced", "full"]
    assert len(messages(session)) == 1


def test_weights_that_do_not_fit_stay_in_main_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.memory.has_own_memory", lambda _: True)
    taken, session, status = render(Card(weights=False), settings_for(folder))
    assert status.state is SessionState.ENDED
    assert taken.indices == list(range(FRAMES))
    assert messages(session) == [
        "Memory is short: the model's weights stay in main memory until they are used, which is much slower."
    ]
    monkeypatch.setattr("app.memory.has_own_memory", lambda _: False)
    *_, status = render(Card(weights=False), settings_for(folder))
    assert status.message.startswith("There is too little memory for ")


def test_the_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.memory.has_own_memory", lambda _: True)
    wanted, limits, found = Settings(frame_buffer=4, width=512, height=384), NO_LIMITS, []
    settings = wanted
    while (step := stepped_down(settings, (settings.width, settings.height), limits, live=True)) is not None:
        limits = step[0]
        settings = limits.applied_to(wanted)
        found.append((settings.frame_buffer, settings.memory, settings.width, settings.height))
    assert found == [
        (1, "full", 512, 384),
        (1, "sliced", 512, 384),
        (1, "offload", 512, 384),
        (1, "offload", 384, 288),
        (1, "offload", 288, 216),
    ]
    assert stepped_down(Settings(memory="offload"), (512, 512), live=False) is None
    monkeypatch.setattr("app.memory.has_own_memory", lambda _: False)
    assert stepped_down(Settings(memory="sliced"), (512, 512), live=False) is None
    assert stepped_down(Settings(), None, live=True) is None


def test_frames_are_run_again_in_order() -> None:
    from app.frame import Frame
    from app.messages import Captured, EndOfSource
    from tests.app.fakes import picture

    retake = Retake()
    items = [Captured(Frame(index, 0.0, picture(index)), Settings(), 1, live=False) for index in range(6)]
    for item in items[:4]:
        retake.entered(item)
    retake.left([items[0].frame, items[1].frame])
    retake.start_over(None)
    again = retake.next()
    assert again is items[2]
    retake.entered(items[2])
    retake.start_over(end := EndOfSource(1, live=False))  # and once more, with the end behind
    assert [retake.next() for _ in range(4)] == [items[2], items[3], end, None]
    retake.entered(replace(items[5], live=True))
    retake.start_over(None)
    assert retake.next() is None
