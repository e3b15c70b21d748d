"""Text to image through the real threads: as a source, on the command line, and with what stands in its way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from app import cli
from app.engine import Loaded, ModelFacts, load_engine
from app.session import Session
from app.settings import Settings
from app.sources import Source
from app.sources.testcard import TestCardSource
from app.sources.text import TextSource
from app.status import SessionState
from app.words import of_words, remarks, runnable
from pipeline import Stream, StreamConfig
from tests.app.fakes import SAFETY_SECONDS, ListSink
from tests.tiny_model import tiny_model, write_tiny_model

SETTINGS = Settings(
    stream=StreamConfig(prompt="a watercolour", seed_travel="walk", travel_frames=4, steps=2), width=64, height=64
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes its log to the user's own."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def load(settings: Settings, *_: object) -> Loaded:
    """A stream on the shared tiny model, which sees no input picture."""
    return Loaded(Stream(tiny_model(), settings.stream), ModelFacts("tiny", "cpu", "float32", "eager", 64))


def rendered(source: Source, settings: Settings, **options: object) -> tuple[list[np.ndarray], Session]:
    taken = ListSink()
    loader = options.get("loader", load)
    with Session(source, settings, [taken], loader=loader, once=True) as session:  # type: ignore[arg-type]
        assert session.wait(2 * SAFETY_SECONDS).state is SessionState.ENDED
    return [frame.pixels for frame in taken.frames], session


def test_a_text_source_makes_pictures_that_walk_and_are_the_same_again() -> None:
    pictures, session = rendered(TextSource(frames=9), SETTINGS)
    assert len(pictures) == 9
    assert not session.notices
    assert not session.settings.stream.text_to_image  # the source asked for it, not the user
    changes = [np.abs(a.astype(int) - b.astype(int)).mean() for a, b in pairwise(pictures)]
    assert all(change > 0.1 for change in changes)
    again, _ = rendered(TextSource(frames=9), SETTINGS)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, again, strict=True))


def test_with_the_setting_on_any_source_is_but_a_clock() -> None:
    expected, _ = rendered(TextSource(frames=5), SETTINGS)
    found, _ = rendered(TestCardSource(width=64, height=64, frames=5), of_words(SETTINGS))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_self_negative_guidance_is_left_out_and_said_once() -> None:
    bad = replace(SETTINGS, stream=replace(SETTINGS.stream, guidance="self-negative", guidance_scale=3.0))
    expected, _ = rendered(TextSource(frames=4), SETTINGS)
    found, session = rendered(TextSource(frames=4), bad)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert [notice.message for notice in session.notices] == [
        "Self-negative guidance moves away from the input picture, and text to image has none; "
        "choose onetime-negative, full or none. Until then there is no guidance."
    ]
    assert runnable(SETTINGS.stream, range(1000)) is SETTINGS.stream
    assert remarks(of_words(bad).stream, of_words(bad).stream, False, range(1000)) == []


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_model_that_sees_its_input_says_what_it_is_given(tmp_path: Path, from_the_start: bool) -> None:
    path = str(write_tiny_model(tmp_path / "tiny", sees_input=True))
    settings = replace(of_words(SETTINGS) if from_the_start else SETTINGS, model=path, device="cpu")
    pictures, session = rendered(TextSource(frames=4), settings, loader=load_engine)
    assert len(pictures) == 4
    said = [notice.message for notice in session.notices if "drifting patches" in notice.message]
    assert len(said) == 1
    assert "sd-turbo" in said[0]


def test_saved_settings_that_conflict_still_load(tmp_path: Path) -> None:
    bad = of_words(SETTINGS)
    bad = replace(bad, stream=replace(bad.stream, guidance="self-negative"), device="cpu")
    loaded = load_engine(replace(bad, model=str(write_tiny_model(tmp_path / "tiny"))))
    assert any("no guidance" in note for note in loaded.notes)


def test_timesteps_that_are_none_of_the_models_are_left_out_and_said(tmp_path: Path) -> None:
    settings = replace(SETTINGS, stream=replace(SETTINGS.stream, steps=2, timesteps="1000,500"), device="cpu")
    loaded = load_engine(replace(settings, model=str(write_tiny_model(tmp_path / "tiny"))))
    said = "Timesteps are '1000,500'; those of this model are whole numbers from 0 to 999. "
    assert said + "Until then steps, strength and spacing decide." in loaded.notes
    known = runnable(settings.stream, range(1, 1001))
    assert known.timesteps == "1000,500"
    assert remarks(settings.stream, settings.stream, False, range(1000)) == []


def test_the_embedded_model_recommends_that_guided_pictures_keep_their_contrast() -> None:
    loaded = load_engine(replace(SETTINGS, model="embedded", device="cpu"))
    assert SETTINGS.stream.guidance_rescale == 0
    assert loaded.facts.defaults["guidance_rescale"] == 1
    assert loaded.stream is not None
    assert loaded.stream.guidance_rescale == 1
    loaded.release()


def test_render_writes_as_many_pictures_as_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_tiny_model(tmp_path / "tiny"), tmp_path / "out.mp4"
    common = ["--model", str(model), "--device", "cpu", "--width", "64", "--height", "64", "--prompt", "ink"]
    assert cli.main(["render", "--text-to-image", "-n", "5", *common, "--seed-travel", "walk", str(out)]) == 0
    with av.open(out) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    still = tmp_path / "one.png"
    assert cli.main(["render", str(still), *common, "--text-to-image", "--frames", "1"]) == 0
    assert still.exists()
    assert capsys.readouterr().err.count("1 frames of 64x64") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text-to-image", "-n", "0", "OUT"], "at least 1"),
        (["--text-to-image", "-n", "many", "OUT"], "invalid int value"),
        (["--text-to-image", "IN.mp4", "OUT"], "text to image has no IN; give OUT alone"),
        (["IN.mp4", "OUT", "--text-to-image"], "text to image has no IN; give OUT alone"),
        (["--text-to-image", "OUT", "--sparkle"], "unrecognized arguments: --sparkle"),
        (["--text-to-image"], "required: OUT"),
        (["--text-to-image", "--guidance", "self-negative", "OUT"], "text to image has none"),
        (["testcard", "OUT", "-n", "5"], "--frames is for --text-to-image"),
        (["--text-to-image", "--travel-frames", "0", "OUT"], "travel frames is 0"),
        (["--text-to-image", "--seed-travel", "jump", "OUT"], "must be one of hold, walk, swing"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    out = tmp_path / "out.mp4"
    given = [str(out) if argument == "OUT" else argument for argument in arguments]
    assert cli.main(["render", *given, "--model", "nowhere"]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not out.exists()


def test_a_lora_written_into_a_prompt_is_said_to_be_words() -> None:
    plain, tagged = StreamConfig(prompt="ink"), StreamConfig(prompt="ink <lora:wash:0.8>")
    said = "<lora:wash:0.8> in a prompt is read as words"
    assert said in remarks(None, tagged, False, range(1000))[0]
    assert said in remarks(plain, tagged, False, range(1000))[0]
    assert remarks(tagged, replace(tagged, steps=2), False, range(1000)) == []
    assert remarks(tagged, plain, False, range(1000)) == []
    assert "<lyco:x:1>" in remarks(None, StreamConfig(negative_prompt="<lyco:x:1>"), False, range(1000))[0]
