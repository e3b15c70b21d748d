"""Small JSON files: what was written comes back, and nothing that may be in such a file ends the program."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from app.json_files import LARGEST_FILE, DamagedError, few, read_json, read_kept, write_json, write_text


@pytest.mark.parametrize(
    "text",
    [
        "ink",
        "",
        "é ß 日本 🎨",
        "\u202eשלום",
        "\0\x1f\x7f\u2028",
        "half of one: \ud83c",
        "a name in Latin-1: caf\udce9",
        "x" * 100_000,
    ],
)
def test_text_of_every_kind_comes_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new" / "kept.json"
    write_json(path, {"text": text, text: 1})
    assert read_json(path) == {"text": text, text: 1}
    assert json.loads(path.read_bytes().decode("utf-8")) == {"text": text, text: 1}
    assert [one.name for one in path.parent.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not a text file"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"1" * 5000, "not JSON"),
        (b" " * (LARGEST_FILE + 1), "larger than 4 MB"),
    ],
)
def test_what_was_not_written_here_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=words):
        read_json(path)
    assert read_kept(path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kept.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(OSError, match=r"no ordinary file|directory|symbolic links"):
        read_json(path)
    assert read_kept(path) is None


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    write_json(path, 1)
    before = path.read_bytes()

    def full(*_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, 2)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """As those have it who keep such files under version control."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "kept.json").symlink_to(tmp_path / "theirs" / "kept.json")
    write_json(tmp_path / "kept.json", 5)
    assert (tmp_path / "kept.json").is_symlink()
    assert read_json(tmp_path / "theirs" / "kept.json") == 5


def test_threads_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    path, errors = tmp_path / "kept.json", []

    def write(number: int) -> None:
        try:
            for _ in range(100):
                write_json(path, [number] * 50)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = read_kept(path)
        assert found is None or (isinstance(found, list) and found == found[:1] * 50)
    assert errors == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


def test_drafts_of_processes_that_were_killed_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / ".kept.json.1.0.part", tmp_path / ".kept.json.2.0.part"
    for draft in (old, young):
        draft.write_bytes(b"{")
    os.utime(old, (0, 0))
    write_text(tmp_path / "kept.json", "{}")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [young.name, "kept.json"]


def test_notes_are_as_many_as_a_person_takes_in() -> None:
    assert few(["a", "b"]) == ["a", "b"]
    many = few(f"{number} {'x' * 1000}" for number in range(1000))
    assert len(many) == 8
    assert max(map(len, many)) < 310
    assert many[-1] == "There are 993 more of this kind."
