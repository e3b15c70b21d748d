"""Settings: ranges, sizes, and a file that survives whatever is in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app import settings as module
from app.settings import Settings, from_dict, load, picture_size, save
from pipeline.config import StreamConfig
from pipeline.setting import Cost, cost_of_change, described

unhurried = hypothesis_settings(deadline=None)
_SHORT_TEXT = st.text("crop64", max_size=6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 100}, "width is 100; it must be a multiple of 8"),
        ({"height": 8}, "at least 64"),
        ({"width": -8}, "width is -8"),
        ({"fit": "squeeze"}, "fit is 'squeeze'; it must be one of crop, pad, stretch"),
        ({"frame_buffer": 0}, "frame buffer is 0"),
        ({"device": "toaster"}, "device is 'toaster'"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**values)


def test_every_setting_is_described() -> None:
    for kind in (Settings, StreamConfig):
        known = {name for name, _, _ in described(kind)}
        assert known == {field.name for field in dataclasses.fields(kind)} - {"stream"}
        assert all(one.help for _, _, one in described(kind))


def test_costs() -> None:
    assert cost_of_change(Settings(), Settings(mirror=True)) is Cost.NOTHING
    assert cost_of_change(Settings(), Settings(width=128)) is Cost.SLOTS
    assert cost_of_change(Settings(), Settings(model="other")) is Cost.MODEL


@pytest.mark.parametrize(
    ("values", "source", "expected"),
    [
        ({}, (640, 480), (344, 256)),  # the model's size as the short side, to the nearest multiple of 8
        ({}, (480, 640), (256, 344)),
        ({}, (333, 333), (256, 256)),
        ({"width": 320}, (640, 480), (320, 240)),
        ({"height": 128}, (640, 320), (256, 128)),
        ({"width": 512, "height": 64}, (10, 10), (512, 64)),
        ({"width": 64}, (4000, 100), (64, 64)),  # never below the smallest side
        ({}, (2000, 20), (8192, 80)),  # nor above the largest, however long and thin the source is
        ({}, (4, 20000), (64, 8192)),
        ({"height": 256}, (20000, 4), (8192, 256)),
        ({"width": 256}, (4, 20000), (256, 8192)),
    ],
)
def test_picture_size(values: dict[str, Any], source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert picture_size(Settings(**values), *source, 256) == expected


@unhurried
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), default=st.integers(8, 1024))
def test_picture_size_is_always_one_that_streams(width: int, height: int, default: int) -> None:
    for side in picture_size(Settings(), width, height, default):
        assert module.SMALLEST_SIDE <= side <= module.LARGEST_SIDE
        assert side % module.SIZE_STEP == 0


def test_a_text_of_the_wrong_form_is_left_at_its_default_and_named() -> None:
    """Whatever form it is: a list of timesteps, or of LoRAs."""
    found, notes = from_dict({"stream": {"timesteps": "1,2", "loras": "a:99", "steps": 3}})
    assert found == Settings(stream=StreamConfig(steps=3))
    assert [note.partition(";")[0] for note in notes] == ["The timesteps are '1,2'", "The strength of a is 99"]


def test_saved_settings_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.json"
    settings = Settings(stream=StreamConfig(prompt="a “sketch”", strength=0.4, steps=3), width=128, mirror=True)
    save(settings, path)
    assert load(path) == (settings, [])
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.json"]


def test_no_file_is_no_news(tmp_path: Path) -> None:
    assert load(tmp_path / "settings.json") == (Settings(), [])


@pytest.mark.parametrize("content", ["{", "", "[1]", "null", "\x00\x01"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content, encoding="utf-8")
    settings, notes = load(path)
    assert settings == Settings()
    assert len(notes) == 1
    assert "damaged" in notes[0]
    assert not path.exists()
    assert (tmp_path / "settings.json.bad").read_text(encoding="utf-8") == content


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


def test_default_path_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.platformdirs, "user_config_dir", lambda *_, **__: str(tmp_path / "vitrail"))
    assert module.default_path() == tmp_path / "vitrail" / "settings.json"


@pytest.mark.parametrize("device", ["cuda:1", "xpu:0", "cpu", "auto"])
def test_a_device_may_have_a_number(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "toaster:1", ":1", 1, ["cuda"]])
def test_what_is_no_device_is_refused(device: object) -> None:
    with pytest.raises(ValueError, match="it must be one of auto, cpu"):
        Settings(device=device)  # type: ignore[arg-type]
