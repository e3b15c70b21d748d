"""Caches that were flipped, cut, swapped, filled, taken away or shared: made again, and never trusted."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.backends.engine_cache import EngineCache

ENGINE = bytes(range(256)) * 40
OTHER = ENGINE[::-1]


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    made = EngineCache(tmp_path / "cache")
    made.store("a", ENGINE)
    made.store("b", OTHER)
    return made


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda stored: stored[: round(share * len(stored))]


def of_another_version(stored: bytes) -> bytes:
    return stored.replace(b"vitrail engine 1\n", b"vitrail engine 0\n", 1)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": cut(0),
    "half": cut(0.5),
    "one byte short": lambda stored: stored[:-1],
    "one byte more": lambda stored: stored + b"\0",
    "its header only": lambda stored: stored[:49],
    "zeros": lambda stored: bytes(len(stored)),
    "another version": of_another_version,
    "another program": lambda stored: b"\x89PNG" + stored[4:],
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_what_is_damaged_counts_as_missing_is_told_and_made_again(
    cache: EngineCache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.path("a")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.load("a") is None
    assert "is damaged; it is made again" in caplog.text
    assert not path.exists()
    assert cache.load("b") == OTHER  # nobody else's is touched
    cache.store("a", ENGINE)
    assert cache.load("a") == ENGINE


def test_no_byte_can_be_another(cache: EngineCache) -> None:
    path, choose = cache.path("a"), random.Random(1)
    whole = path.read_bytes()
    for place in [0, 10, 17, 48, 49, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(200))]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << choose.randrange(8)
        path.write_bytes(flipped)
        assert cache.load("a") is None, place


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("instead", [folder, loop, nowhere])
def test_what_is_no_file_counts_as_missing(cache: EngineCache, instead: Callable[[Path], None]) -> None:
    instead(cache.path("a"))
    assert cache.load("a") is None
    cache.store("a", ENGINE)  # whether it can or not
    assert cache.load("a") in (None, ENGINE)
    assert cache.load("b") == OTHER


def test_a_cache_that_is_a_file_or_goes_away_is_no_harm(tmp_path: Path, cache: EngineCache) -> None:
    (tmp_path / "file").write_text("mine")
    in_a_file = EngineCache(tmp_path / "file")
    in_a_file.store("a", ENGINE)
    assert in_a_file.load("a") is None
    assert (tmp_path / "file").read_text() == "mine"
    shutil.rmtree(tmp_path / "cache")
    assert cache.load("a") is None
    cache.store("a", ENGINE)  # which makes the folder again
    assert cache.load("a") == ENGINE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_cannot_be_kept_is_told_and_leaves_no_draft(
    cache: EngineCache, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", refuse)
    with caplog.at_level(logging.WARNING):
        cache.store("a", OTHER)
    monkeypatch.undo()
    assert os.strerror(number) in caplog.text
    assert cache.load("a") == ENGINE  # what was there before
    assert not list(cache.path("a").parent.glob(".*"))


WRITER = """
import sys
from pathlib import Path
from pipeline.file_cache import FileCache
cache = FileCache(Path(sys.argv[1]), "engine", 1, 2**30)
for number in range(int(sys.argv[2])):
    cache.store("shared", bytes([number % 256]) * 50_000)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "shared"), "150"]
    found = [subprocess.Popen(command) for _ in range(2)]
    yield found
    for one in found:
        one.kill()
        one.wait()


def test_two_processes_that_write_one_entry_never_show_half_of_it(
    tmp_path: Path, writers: list[subprocess.Popen[bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    cache, whole = EngineCache(tmp_path / "shared"), 0
    while any(one.poll() is None for one in writers):
        found = cache.load("shared")
        if found is not None:
            assert len(found) == 50_000
            assert len(set(found)) == 1
            whole += 1
    assert [one.wait() for one in writers] == [0, 0]
    assert whole > 0
    assert caplog.text == ""
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["shared.engine"]


@pytest.mark.skipif(sys.platform == "win32", reason="a process is ended in another way there")
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_half(
    tmp_path: Path, writers: list[subprocess.Popen[bytes]]
) -> None:
    cache = EngineCache(tmp_path / "shared")
    while cache.load("shared") is None:
        assert any(one.poll() is None for one in writers)
    for one in writers:
        one.kill()
        one.wait()
    found = cache.load("shared")
    assert found is not None
    assert len(set(found)) == 1


def test_threads_that_write_one_entry_never_show_half_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = EngineCache(tmp_path)

    def write(number: int) -> None:
        for _ in range(40):
            cache.store("shared", bytes([number]) * 50_000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = cache.load("shared")
        assert found is None or len(set(found)) == 1
    for thread in threads:
        thread.join()
    assert cache.load("shared") is not None
    assert caplog.text == ""
