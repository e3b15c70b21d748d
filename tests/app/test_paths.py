"""What is written is never what was read: under any name, through any link, and whatever is written beside."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from app.commands.misuse import Misuse
from app.commands.paths import check_apart, model_files
from app.settings import Settings
from pipeline.config import StreamConfig
from pipeline.user_path import expanded


def test_a_home_is_expanded_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    for text in ("./a.mp4", "a~b", "~nobody-of-this-name/a", "camera:0", "frames/", "-"):
        assert expanded(text) == text
    assert expanded("~/a.mp4") == "/home/me/a.mp4"


@pytest.mark.parametrize("link", ["itself", "hard", "symbolic", "another way"])
def test_what_is_read_is_not_written(tmp_path: Path, link: str) -> None:
    (tmp_path / "sub").mkdir()
    given, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    given.write_bytes(b"film")
    if link == "itself":
        output = given
    elif link == "hard":
        output.hardlink_to(given)
    elif link == "symbolic":
        output.symlink_to(given)
    else:
        output = tmp_path / "sub" / ".." / "in.mp4"
    for what in ("the output", "the report"):
        with pytest.raises(Misuse, match=f"is also the input; give {what} another name"):
            check_apart({"the input": [given]}, {what: output})
    check_apart({"the input": [given]}, {"the output": tmp_path / "new.mp4"})


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Misuse, match="is also the output; give the report another name"):
        check_apart({}, {"the output": tmp_path / "a.mp4", "the report": tmp_path / "link" / "a.mp4"})
    folder = {"the output": tmp_path / "new", "the report": tmp_path / "new" / "frame_000007.png"}
    with pytest.raises(Misuse, match="may also be a picture of the output"):
        check_apart({}, folder)
    check_apart({}, {**folder, "the report": tmp_path / "new" / "report.json"})


@pytest.mark.skipif(sys.platform == "win32", reason="hard links to pictures are unusual there")
def test_a_folder_stands_for_its_numbered_pictures(tmp_path: Path) -> None:
    given, folder = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    folder.mkdir()
    (given / "a.png").write_bytes(b"a picture")
    (folder / "others.png").hardlink_to(given / "a.png")
    check_apart({"the input": [given / "a.png"]}, {"the output": folder})
    (folder / "frame_000002.png").hardlink_to(given / "a.png")
    with pytest.raises(Misuse, match=r"frame_000002.png is also the input"):
        check_apart({"the input": [given / "a.png"]}, {"the output": folder})
    with pytest.raises(Misuse, match=r"frame_000002.png is also the input"):
        check_apart({"the input": [folder / "frame_000002.png"]}, {"the output": folder})


def test_a_model_and_what_is_added_to_it_are_read(tmp_path: Path) -> None:
    model, lora = tmp_path / "model" / "unet" / "config.json", tmp_path / "a;b.safetensors"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    (tmp_path / "model" / "model_index.json").write_text("{}")
    lora.write_bytes(b"weights")
    settings = Settings(model=str(tmp_path / "model"), stream=StreamConfig(loras=f'"{lora}":0.5; of/a-hub'))
    read = model_files(settings)
    with pytest.raises(Misuse, match="is also the model"):
        check_apart(read, {"the report": model})
    with pytest.raises(Misuse, match="is also a LoRA"):
        check_apart(read, {"the report": lora})
    check_apart(read, {"the report": tmp_path / "model" / "report.json"})


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("keep_shape", "canny:0.5 @ {}", "a model that keeps the shape"),
        ("look_model", "{}", "a model that keeps the shape or shows a picture"),
        ("depth_model", "{}", "a model that keeps the shape"),
        ("look_like", '"{}":0.5', "a picture to steer by"),
        ("background", "{}", "a picture to steer by"),
    ],
)
def test_what_steers_the_picture_is_read(tmp_path: Path, name: str, value: str, what: str) -> None:
    given = tmp_path / "given.png"
    given.write_bytes(b"something")
    settings = Settings(stream=StreamConfig(**{name: value.format(given)}))  # type: ignore[arg-type]
    with pytest.raises(Misuse, match=f"is also {what}"):
        check_apart(model_files(settings), {"the output": given})


def test_the_encoder_of_an_ip_adapter_is_read(tmp_path: Path) -> None:
    encoder = tmp_path / "models" / "image_encoder" / "model.safetensors"
    encoder.parent.mkdir(parents=True)
    encoder.write_bytes(b"weights")
    settings = Settings(stream=StreamConfig(look_model=str(tmp_path)))
    assert encoder in model_files(settings)["a model that keeps the shape or shows a picture"]


def test_only_files_that_are_read_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    (folder / "unet" / "deeper").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "unet" / "deeper" / "config.json").write_text("{}")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.json").write_text("{}")
    settings = Settings(model=str(folder))
    assert model_files(settings)["the model"] == []  # no index: it is no model, and might be a whole disk
    (folder / "model_index.json").write_text("{}")
    assert model_files(settings)["the model"] == [folder / "model_index.json", folder / "unet" / "config.json"]
    stat = os.stat

    def guarded(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if os.fspath(path) == str(folder / "unet" / "config.json"):  # as of a link into a folder one may not enter
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", guarded)
    assert model_files(settings)["the model"] == [folder / "model_index.json"]


def test_names_that_cannot_be_are_no_files() -> None:
    check_apart({"the input": [Path("x" * 5000)]}, {"the output": Path("y" * 5000)})
    assert not os.path.lexists("x" * 5000)
