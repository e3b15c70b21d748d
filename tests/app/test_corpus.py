"""Whatever is given comes out right, or one sentence says what did not: every input of the corpus, through its door."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import app.commands.logs
import app.settings
from app.catalogue import catalogue, with_values
from app.cli import main
from app.json_files import encodable
from app.presets import Preset, PresetError, import_preset, list_presets, load_preset, save_preset
from app.prompt_history import PromptHistory, load_history, save_history
from app.settings import Settings
from app.settings_file import load, save
from app.snapshot import save_snapshot, settings_of_snapshot
from app.sources import SourceError, open_source
from pipeline import ModelError, Stream, StreamConfig, load_model
from pipeline.adapter_list import quoted
from pipeline.models.residency import DENOISER
from tests.app.media import frames_of
from tests.corpus import CASES
from tests.corpus_case import Case, Ends, Frames, Says, Values
from tests.corpus_commands import TINY
from tests.corpus_weights import NORM, OUT, PRODUCT, QUERY
from tests.tiny_model import new_tiny_model, tiny_model, unet_of, write_tiny_model

UNFORESEEN = re.compile(r"unforeseen|Traceback|\w+Error\b")
PLAIN = StreamConfig(prompt="ink", steps=1, solver="ddim", strength=0.8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", sees_input=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the input is, the working folder and the home at once; nothing of the user's is touched."""
    given, kept = tmp_path / "given", tmp_path / "kept"
    given.mkdir()
    monkeypatch.chdir(given)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(given))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(app.commands.logs.platformdirs, "user_log_dir", lambda *_, **__: str(kept / "log"))
    monkeypatch.setattr(app.settings.platformdirs, "user_config_dir", lambda *_, **__: str(kept / "config"))
    return given


def sentence(message: str) -> str:
    """``message``, which must be for people: short, of one line, and no name of an exception."""
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 6000
    assert not UNFORESEEN.search(message), message
    return message


def check_notes(found: Sequence[str], expected: Sequence[str]) -> None:
    assert len(found) == len(expected), found
    for note, words in zip(found, expected, strict=True):
        assert re.search(words, sentence(note)), note


def check_values(settings: Settings, expected: Values) -> None:
    for name, value in expected.values.items():
        group, _, inner = name.rpartition(".")
        settings = (
            dataclasses.replace(settings, stream=dataclasses.replace(settings.stream, **{inner: _default(inner)}))
            if group and getattr(settings.stream, inner) == value
            else dataclasses.replace(settings, **{name: getattr(Settings(), name)})
            if not group and getattr(settings, name) == value
            else pytest.fail(f"{name} is not {value!r}")
        )
    assert settings == Settings(), "all others are at their default"


def _default(name: str) -> object:
    return getattr(StreamConfig(), name)


def check_source(case: Case, folder: Path) -> None:
    """Through ``open_source``, to its last frame."""
    given, right = str(case.make(folder)), case.right
    if isinstance(right, Says):
        with pytest.raises(SourceError, match=right.words) as caught:
            list(frames_of(open_source(given)))
        sentence(str(caught.value))
        return
    assert isinstance(right, Frames)
    source = open_source(given)
    frames = list(frames_of(source))
    assert len(frames) == right.count
    assert all(frame.pixels.dtype == np.uint8 and frame.pixels.shape[2] == 3 for frame in frames)
    first = frames[0].pixels
    if right.size is not None:
        assert (first.shape[1], first.shape[0]) == right.size
    for (x, y), colour in right.colours.items():
        assert first[y, x].tolist() == pytest.approx(colour, abs=right.within), (x, y)
    for frame, colour in zip(frames, right.firsts, strict=False):
        assert frame.pixels[0, 0].tolist() == pytest.approx(colour, abs=right.within)
    if right.times:
        assert [frame.media_time for frame in frames] == pytest.approx(right.times, abs=0.002)
    assert bool(source.lost) == bool(right.said), source.lost
    assert re.search(right.said, sentence(source.lost) if source.lost else "")


def check_lora(case: Case, folder: Path) -> None:
    """On the tiny model, whose weights say how much of it was taken."""
    model = new_tiny_model()
    asked = dataclasses.replace(PLAIN, loras=quoted(str(case.make(folder))))
    if isinstance(case.right, Says):
        with pytest.raises(ModelError, match=case.right.words) as caught:
            model.adapters.read(asked)
        sentence(str(caught.value))
        return
    assert isinstance(case.right, Values)
    before = {name: tensor.clone() for name, tensor in unet_of(model).state_dict().items()}
    check_notes(model.adapters.read(asked), case.right.notes)
    stream = Stream(model, asked)
    after = unet_of(model).state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed <= {f"{QUERY}.weight", f"{OUT}.bias", f"{NORM}.weight"}
    for layer, times in case.right.values.items():
        assert isinstance(times, float)
        change = after[f"{layer}.weight"] - before[f"{layer}.weight"]
        torch.testing.assert_close(change, times * PRODUCT, atol=2e-3, rtol=2e-2)
    assert model.adapters.in_denoiser, DENOISER
    stream.close()


def check_checkpoint(case: Case, folder: Path) -> None:
    """To its first picture."""
    given = str(case.make(folder))
    if isinstance(case.right, Says):
        with pytest.raises(ModelError, match=case.right.words) as caught:
            load_model(given, device="cpu", dtype="float32").modules.get()
        sentence(str(caught.value))
        return
    assert isinstance(case.right, Values)
    model = load_model(given, device="cpu", dtype="float32", autoencoder="auto" if "folder" in case.name else "full")
    check_notes(model.notes, case.right.notes)
    picture = Stream(model, PLAIN)(torch.rand(3, 32, 32)).image
    assert bool(torch.isfinite(picture).all())


def check_settings(case: Case, folder: Path) -> None:
    """Loaded, saved and loaded again; a file that is set aside is kept as it was."""
    path = case.make(folder)
    assert isinstance(path, Path)
    assert isinstance(case.right, Values)
    before = path.read_bytes() if path.is_file() else None
    chosen, notes = load(path)
    check_notes(notes, case.right.notes)
    check_values(with_values(Settings(), catalogue(), chosen), case.right)
    if any("settings.json.bad" in note for note in notes):
        assert (folder / "settings.json.bad").read_bytes() == before
    save(chosen, folder / "again.json")
    assert load(folder / "again.json") == (chosen, [])


def check_preset(case: Case, folder: Path) -> None:
    """Read, kept under its name, and read again."""
    path = case.make(folder)
    assert isinstance(path, Path)
    if isinstance(case.right, Says):
        with pytest.raises(PresetError, match=case.right.words) as caught:
            import_preset(path, folder / "presets")
        sentence(str(caught.value))
        assert list_presets(folder / "presets") == []
        return
    assert isinstance(case.right, Values)
    preset, notes = load_preset(path)
    check_notes(notes, case.right.notes)
    check_values(preset.settings, case.right)
    kept, _ = import_preset(path, folder / "presets")
    assert load_preset(kept) == (preset, [])


def check_text(case: Case, folder: Path) -> None:
    """To a picture, and through every file that a prompt is kept in."""
    prompt = case.make(folder)
    assert isinstance(prompt, str)
    tokens = tiny_model().prompts(prompt)
    assert tokens.shape[1] % 77 == 0
    assert bool(torch.isfinite(tokens).all())
    settings = Settings(stream=StreamConfig(prompt=prompt))
    save({"prompt": prompt}, folder / "settings.json")
    assert load(folder / "settings.json") == ({"prompt": prompt}, [])
    history = PromptHistory([prompt])
    save_history(history, folder / "prompts.json")
    assert load_history(folder / "prompts.json").prompts == history.prompts
    kept, _ = settings_of_snapshot(save_snapshot(np.zeros((8, 8, 3), np.uint8), settings, folder=folder / "pictures"))
    assert kept == settings
    preset, notes = load_preset(save_preset(Preset("look", settings), folder / "presets"))
    assert (preset.settings.stream.prompt, notes) == (encodable(prompt), [])


def check_command(case: Case, folder: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process; what was there before is there after, byte for byte."""
    words = case.make(folder)
    assert isinstance(words, tuple)
    assert isinstance(case.right, Ends)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([str(tiny) if word == TINY else word for word in words]) == case.right.code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.search(case.right.words, sentence(line)), line
    assert {path: path.read_bytes() for path in before} == before
    new = {path for path in folder.rglob("*") if path.is_file()} - set(before)
    assert new == {folder / name for name in case.right.files}
    assert all(path.stat().st_size for path in new)


DOORS: dict[str, Callable[[Case, Path], None]] = {
    "picture": check_source,
    "folder": check_source,
    "lora": check_lora,
    "checkpoint": check_checkpoint,
    "settings": check_settings,
    "preset": check_preset,
    "text": check_text,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_every_input_comes_out_right_or_is_told(
    case: Case, folder: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if case.kind == "path":
        check_command(case, folder, tiny, capsys)
    else:
        DOORS[case.kind](case, folder)


def test_there_are_many_and_each_is_there_once() -> None:
    names = [(case.kind, case.name) for case in CASES]
    assert len(set(names)) == len(names) >= 200
