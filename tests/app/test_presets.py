"""Presets: text that comes back as the same look, and whatever is wrong with it is told, not fatal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.catalogue import catalogue, with_values
from app.presets import (
    Preset,
    PresetError,
    from_text,
    import_preset,
    is_taken,
    list_presets,
    load_preset,
    save_preset,
    to_text,
)
from app.settings import Settings
from pipeline.config import StreamConfig
from pipeline.setting import described

LOOK = Settings(
    stream=StreamConfig(prompt='ink "wash"\n\\ 墨 \x7f\t🖌', negative_prompt="", strength=0.35, steps=3, seed=2**31 - 1),
    width=512,
    height=384,
    fit="pad",
    model="some/model",
    mirror=True,
)


def test_a_look_comes_back_whole():
    preset, notes = from_text(to_text(Preset("Ink wash", LOOK)))
    assert notes == []
    assert preset.name == "Ink wash"
    assert preset.settings.stream == LOOK.stream
    assert (preset.settings.width, preset.settings.height, preset.settings.fit) == (512, 384, "pad")


def test_a_look_leaves_the_machines_settings_alone():
    mine = Settings(model="mine", device="cpu", dtype="float32", mirror=False, frame_buffer=2)
    preset, _ = from_text(to_text(Preset("Ink", LOOK)))
    after = with_values(mine, catalogue(), preset.look)
    assert after == replace(mine, stream=LOOK.stream, width=512, height=384, fit="pad", steadiness=LOOK.steadiness)


def test_the_text_explains_itself_and_is_stable():
    text = to_text(Preset("Ink", LOOK))
    assert text == to_text(from_text(text)[0])
    lines = text.splitlines()
    for name, _, known in described(StreamConfig):
        (line,) = [line for line in lines if line.startswith(f"{name} = ")]
        assert line.count(f"  # {known.help}") == 1
    assert not any(word in text for word in ("device", "mirror", "some/model"))


def test_what_is_unknown_or_out_of_range_is_said_and_left_at_its_default():
    text = """
    vitrail-preset = 1
    name = "Odd"
    sparkle = 3
    [picture]
    width = 13
    model = "elsewhere"
    [stream]
    strength = 7.5
    steps = "many"
    seed = 5
    glitter = true
    solver = 2026-01-01
    """
    preset, notes = from_text(text)
    assert preset.settings == Settings(stream=StreamConfig(seed=5))
    told = "\n".join(notes)
    for word in ("sparkle", "picture.model", "width", "strength", "steps", "glitter", "solver"):
        assert word in told, word
    assert len(notes) == 7


def test_missing_lines_keep_their_default():
    preset, notes = from_text('vitrail-preset = 1\n[stream]\nprompt = "ink"', name="file name")
    assert (preset.name, notes) == ("file name", [])
    assert preset.settings == Settings(stream=StreamConfig(prompt="ink"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a Vitrail preset"),
        ("name = 'x'", "not a Vitrail preset"),
        ("vitrail-preset = true", "not a Vitrail preset"),
        ("vitrail-preset = 2", "Update Vitrail"),
        ("vitrail-preset = ", "cannot be understood"),
        ("x = " + "[" * 5000, "cannot be understood"),
        ("vitrail-preset = " + "1" * 5000, "cannot be understood"),
    ],
)
def test_what_is_no_preset_is_refused(text: str, words: str):
    with pytest.raises(PresetError, match=words):
        from_text(text)


def test_groups_that_are_none_are_said():
    preset, notes = from_text("vitrail-preset = 1\nstream = 3\npicture = 4\nname = 5", "n")
    assert preset == Preset("n", Settings())
    assert len(notes) == 2


def test_files_are_kept_listed_replaced_and_imported(tmp_path: Path):
    folder = tmp_path / "presets"
    assert list_presets(folder) == []
    first = save_preset(Preset("Ink: wash / 2", LOOK), folder)
    assert first.name == "Ink wash  2.toml"
    with pytest.raises(PresetError, match="already"):
        save_preset(Preset("Ink: wash / 2", Settings()), folder)
    assert load_preset(first)[0].settings.stream == LOOK.stream
    again = save_preset(Preset("Ink: wash / 2", Settings()), folder, replace=True)
    assert again == first
    assert load_preset(first) == (Preset("Ink: wash / 2", Settings()), [])
    save_preset(Preset("aquarelle", LOOK), folder)
    foreign = tmp_path / "from a friend.toml"
    foreign.write_text(to_text(Preset("Aquarelle", LOOK)), encoding="utf-8-sig")  # as Windows editors write it
    path, notes = import_preset(foreign, folder)
    assert notes == []
    assert [one.stem for one in list_presets(folder)] == ["aquarelle", "Aquarelle 2", "Ink wash  2"]
    assert load_preset(path)[0].name == "Aquarelle 2"


@pytest.mark.parametrize(
    "names", [("😀", "🎨"), ("ink/wash", "inkwash"), ("con", "preset con"), ("a" * 300, "a" * 301)]
)
def test_no_preset_takes_the_place_of_another(names: tuple[str, str], tmp_path: Path):
    for strength, name in zip((0.2, 0.7), names, strict=True):
        assert not is_taken(name, tmp_path)
        save_preset(Preset(name, Settings(stream=StreamConfig(strength=strength))), tmp_path)
        assert is_taken(name, tmp_path)
    found = [load_preset(path)[0] for path in list_presets(tmp_path)]
    assert {one.name: one.settings.stream.strength for one in found} == dict(zip(names, (0.2, 0.7), strict=True))


def test_what_is_no_preset_is_not_written_over(tmp_path: Path):
    (tmp_path / "Ink.toml").write_text("my own notes", encoding="utf-8")
    assert save_preset(Preset("Ink", LOOK), tmp_path).name == "Ink 2.toml"
    assert save_preset(Preset("Ink", LOOK), tmp_path, replace=True).name == "Ink 2.toml"
    assert (tmp_path / "Ink.toml").read_text(encoding="utf-8") == "my own notes"


def test_text_without_utf8_is_kept_as_far_as_it_goes(tmp_path: Path):
    """Half a character, as a command line of another encoding gives it."""
    look = Settings(stream=StreamConfig(prompt="caf\udce9"))
    path = save_preset(Preset("caf\udce9", look), tmp_path)
    preset, notes = load_preset(path)
    assert (preset.name, preset.settings.stream.prompt, notes) == ("caf\ufffd", "caf\ufffd", [])
    assert is_taken("caf\udce9", tmp_path)


@pytest.mark.parametrize("name", ["", "...", "con", "COM1", "../../up", "a" * 300, "\0", "🎨" * 100])
def test_every_name_makes_a_file_in_the_folder(name: str, tmp_path: Path):
    path = save_preset(Preset(name, LOOK), tmp_path)
    assert path.parent == tmp_path
    assert load_preset(path)[0].settings.stream == LOOK.stream


def test_files_that_cannot_be_read_or_written_are_told(tmp_path: Path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "huge.toml").write_bytes(b"#" * 300_000)
    (tmp_path / "no.toml").write_text("hello")
    for name, words in [
        ("binary.toml", "not a text file"),
        ("huge.toml", "too large"),
        ("missing.toml", "No such file"),
        ("no.toml", "no.toml: The preset cannot be understood"),
    ]:
        with pytest.raises(PresetError, match=words):
            import_preset(tmp_path / name, tmp_path / "presets")
    with pytest.raises(PresetError, match="cannot be written"):
        save_preset(Preset("x", LOOK), tmp_path / "no.toml")
    assert list_presets(tmp_path / "no.toml") == []
