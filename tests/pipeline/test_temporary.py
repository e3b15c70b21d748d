"""Temporary files: nothing of a process is left once it has ended, or another one has begun after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_MAKES_ONE = """
import sys
from pipeline.temporary import new_temporary_folder, temporary_folder
(new_temporary_folder() / "blob").write_bytes(bytes(1000))
with temporary_folder() as folder:
    (folder / "blob").write_bytes(bytes(1000))
"""
_ENDS_WHILE_ONE_IS_WRITTEN = """
import threading
from pipeline.temporary import temporary_folder
written = threading.Event()
def work():
    with temporary_folder() as folder:
        while True:
            (folder / "blob").write_bytes(bytes(1000))
            written.set()
threading.Thread(target=work, daemon=True).start()
written.wait()
"""


def started(folder: Path, script: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("script", [_MAKES_ONE, _ENDS_WHILE_ONE_IS_WRITTEN, _MAKES_ONE + "raise SystemExit(3)"])
def test_nothing_is_left_at_the_end(tmp_path: Path, script: str) -> None:
    with started(tmp_path, script) as process:
        process.communicate(timeout=60)
    assert left(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there a process is killed by the same call as it is ended")
def test_what_a_killed_process_left_is_removed_by_the_next_and_no_other(tmp_path: Path) -> None:
    waits = _MAKES_ONE + "print('there', flush=True); sys.stdin.read()"
    mine = tmp_path / "vitrail of mine"
    mine.mkdir()
    with started(tmp_path, waits) as alive, started(tmp_path, waits) as killed:
        for process in (alive, killed):
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=60)
        assert len(list(tmp_path.glob("vitrail-run-*"))) == 2
        with started(tmp_path, _MAKES_ONE) as next_one:
            next_one.communicate(timeout=60)
        (folder,) = tmp_path.glob("vitrail-run-*")
        assert (next(path for path in folder.iterdir() if path.is_dir()) / "blob").stat().st_size == 1000
        alive.communicate(timeout=60)
    assert left(tmp_path) == [mine.name]


def test_without_locks_it_does_without(tmp_path: Path) -> None:
    """As on some file systems that lie on another machine."""
    script = "import pipeline.temporary as t\ndef no(_): raise OSError(37, 'No locks available')\nt._lock_file = no\n"
    with started(tmp_path, script + _MAKES_ONE) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert left(tmp_path) == []
