"""What was chosen comes back from its file, whatever else is in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.settings import Settings
from app.settings_file import from_dict, load, save
from pipeline.config import StreamConfig

unhurried = hypothesis_settings(deadline=None)
_SHORT_TEXT = st.text("crop64", max_size=6)
CHOSEN = {"prompt": "a “sketch”", "strength": 0.4, "steps": 1, "width": 128, "mirror": False}


def test_a_text_of_the_wrong_form_is_left_at_its_default_and_named() -> None:
    """Whatever form it is: a list of timesteps, or of LoRAs."""
    found, notes = from_dict({"stream": {"timesteps": "1,2", "loras": "a:99", "steps": 3}})
    assert found == Settings(stream=StreamConfig(steps=3))
    assert [note.partition(";")[0] for note in notes] == ["timesteps are '1,2'", "strength of a is 99"]


def test_what_was_chosen_comes_back_also_where_it_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    save(CHOSEN, path)
    assert load(path) == (CHOSEN, [])
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.json"]


def test_a_file_of_the_first_edition_is_read_on(tmp_path: Path) -> None:
    """It held all settings. What is as by default there was, as far as anybody can tell, not chosen."""
    path = tmp_path / "settings.json"
    old = Settings(stream=StreamConfig(prompt="ink", steps=1, guidance_scale=3.0), width=128)
    path.write_text(json.dumps(dataclasses.asdict(old)), encoding="utf-8")
    assert load(path) == ({"prompt": "ink", "guidance_scale": 3.0, "width": 128}, [])


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    save({"strength": 1}, path)
    chosen, _ = load(path)
    assert chosen == {"strength": 1.0}
    assert isinstance(chosen["strength"], float)


def test_no_file_is_no_news(tmp_path: Path) -> None:
    assert load(tmp_path / "settings.json") == ({}, [])


@pytest.mark.parametrize("content", ["{", "", "[1]", "null", "\x00\x01", '{"version": 2}'])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content, encoding="utf-8")
    chosen, notes = load(path)
    assert chosen == {}
    assert len(notes) == 1
    assert "damaged" in notes[0]
    assert not path.exists()
    assert (tmp_path / "settings.json.bad").read_text(encoding="utf-8") == content


def test_nothing_that_was_set_aside_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for content in ("{", "[", "("):
        path.write_text(content, encoding="utf-8")
        load(path)
    kept = [one.read_text(encoding="utf-8") for one in sorted(tmp_path.iterdir())]
    assert sorted(kept) == ["(", "[", "{"]


def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next save would take its place."""
    path = tmp_path / "settings.json"
    save(CHOSEN, path)

    def refuse(_: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("app.settings_file.read_json", refuse)
    chosen, notes = load(path)
    assert chosen == {}
    assert "cannot be read (Permission denied); they are kept as settings.json.bad" in notes[0]
    assert (tmp_path / "settings.json.bad").exists()


def test_a_mark_of_the_byte_order_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    save(CHOSEN, path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path) == (CHOSEN, [])


def test_a_file_of_a_newer_version_is_kept_and_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"version": 3, "chosen": {"steps": 4}}', encoding="utf-8")
    chosen, notes = load(path)
    assert chosen == {}
    assert "are of a newer version of Vitrail; they are kept as settings.json.bad" in notes[0]
    assert "steps" in (tmp_path / "settings.json.bad").read_text(encoding="utf-8")


def test_what_cannot_be_used_is_named_and_the_rest_taken() -> None:
    settings, notes = from_dict(
        {"stream": {"strength": 1.7, "prompt": "ink", "sparkle": 1}, "mirror": True, "fit": 3, "colour": "red"}
    )
    assert settings == Settings(stream=StreamConfig(prompt="ink"), mirror=True)
    assert len(notes) == 4
    for word in ("strength is 1.7", "'sparkle'", "fit is 3", "'colour'"):
        assert any(word in note for note in notes)


def test_a_size_that_cannot_stream_is_left_out() -> None:
    settings, notes = from_dict({"width": 100, "mirror": True})
    assert settings == Settings(mirror=True)
    assert "width is 100" in notes[0]


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(["stream", "model", "width", "height", "mirror", "frame_buffer", "x"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), _SHORT_TEXT, st.dictionaries(_SHORT_TEXT, st.none())
        ),
    )
)
def test_any_json_gives_settings(found: dict[str, Any]) -> None:
    settings, _ = from_dict(found)
    assert isinstance(settings, Settings)
