"""The command line as a process of its own: what only a real one can show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import app.commands.logs
from app.cli import main
from app.commands.demo import TOUR
from tests.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 110


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "app.cli", *map(str, arguments)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user who has nothing: no display, no settings, no cache."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DISPLAY", "WAYLAND_", "QT_"))
    }
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


def run(environment: dict[str, str], folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_importing_the_command_line_is_cheap(environment: dict[str, str]) -> None:
    script = (
        "import sys, app.cli; from app.commands.parser import build_parser; build_parser().format_help();"
        "print([name for name in ('torch', 'diffusers', 'PySide6', 'cv2', 'av') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "missing.mp4", "out.mp4"], "missing.mp4"),
        (["render", "testcard", "out.mp4", "--strength", "1.7"], "strength is 1.7"),
        *([([], "vitrail demo")] if sys.platform == "linux" else []),
    ],
)
def test_misuse_is_one_line(environment: dict[str, str], tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(environment, tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_the_demo_needs_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment, tmp_path, "demo", "--frames", str(len(TOUR) * 2))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with av.open(str(tmp_path / "vitrail-demo.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(TOUR) * 2
    sheet = cv2.imread(str(tmp_path / "vitrail-demo.png"))
    assert sheet is not None
    before, after = np.split(sheet[: sheet.shape[0] // 2 * 2].astype(int), 2)
    assert np.abs(before - after).mean() > 5  # something was done to the pictures


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent signals there")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_a_file_that_plays_and_its_report(
    environment: dict[str, str], tmp_path: Path, name: str, code: int
) -> None:
    model = write_tiny_model(tmp_path / "tiny", sees_input=True)
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    flags = ("--prompt", "x", "--model", model, "--height", "64", "--acceleration", "eager", "--report", report)
    process = subprocess.Popen(
        command("render", "testcard:frames=100000,width=128,height=96", out, *flags),
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        limit = time.monotonic() + LIMIT_SECONDS
        while not (out.exists() and out.stat().st_size > 8_000):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert {"SIGINT": "interrupted"}.get(name, f"ended by {name}") in said
    assert "Traceback" not in said
    with av.open(str(out)) as container:
        written = sum(1 for _ in container.decode(video=0))
    assert written > 5
    assert written - 1 <= json.loads(report.read_text())["frames_out"] <= written


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent signals there")
def test_a_hangup_that_is_ignored_stays_so(environment: dict[str, str]) -> None:
    """As nohup has it, whose program is to outlive its terminal."""
    script = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "from app.cli import main; sys.argv = ['', 'render', 'no.mp4', 'out.mp4']; main();"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_a_thread_that_is_left_behind_leaves_no_temporary_files(environment: dict[str, str], tmp_path: Path) -> None:
    """As one that builds an engine when the film is done: nobody waits for it, and its files go with the program."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    script = (
        "import sys, threading; from app.cli import main; from pipeline.temporary import new_temporary_folder;"
        "(new_temporary_folder() / 'graph.bin').write_bytes(bytes(9));"
        "threading.Thread(target=threading.Event().wait, name='vitrail-engines', daemon=True).start();"
        "sys.argv = ['', 'render', 'no.mp4', 'out.mp4']; main()"
    )
    folders = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment | folders, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("No such file")) == (2, 1)
    assert list(temporary.glob("vitrail*")) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_messages_that_nobody_reads_change_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    """Without a prompt a note is said before anything is done: neither it nor the summary has a reader."""
    model = write_tiny_model(tmp_path / "tiny", sees_input=True)
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((64, 64, 3), np.uint8))
    given = command("render", "in.png", "out.png", "--model", model, "--acceleration", "eager", "--height", "64")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        given, cwd=tmp_path, env=environment, stdout=writer, stderr=writer, timeout=LIMIT_SECONDS, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "out.png").stat().st_size > 0


def test_results_for_a_code_page_go_out(environment: dict[str, str], tmp_path: Path) -> None:
    """As standard output is on a Windows of western Europe."""
    script = "from app.cli import main; main()"
    with (tmp_path / "said").open("wb") as said:
        done = subprocess.run(
            [sys.executable, "-c", script, "doctor"],
            env={**environment, "PYTHONIOENCODING": "cp1252"},
            stdout=said,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "vitrail doctor" in (tmp_path / "said").read_text("cp1252")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere OpenMP says it in other words")
@pytest.mark.parametrize(
    ("set_by_user", "turns"), [({}, "1000"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_threads_of_pytorch_spin_briefly(environment: dict[str, str], set_by_user: dict[str, str], turns: str) -> None:
    """As OpenMP itself says once the library that torch brings is loaded."""
    (library,) = (Path(torch.__file__).parent / "lib").glob("libgomp*.so*")
    script = (
        "import ctypes, sys, app.cli; sys.argv = ['', 'render', 'no.mp4', 'out.mp4']; app.cli.main();"
        f"ctypes.CDLL({str(library)!r})"
    )
    asked = {**environment, "OMP_DISPLAY_ENV": "verbose"} | set_by_user
    done = subprocess.run([sys.executable, "-c", script], env=asked, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr


def test_threads_take_short_turns_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app.commands.logs.platformdirs, "user_log_dir", lambda *_, **__: str(tmp_path / "log"))
    arguments = ["render", "nowhere.mp4", "out.mp4"]
    before = sys.getswitchinterval()
    assert main(arguments) == 2
    assert sys.getswitchinterval() == before, "whoever calls it from Python keeps theirs"
    monkeypatch.setattr(sys, "argv", ["vitrail", *arguments])
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # and so the other variables stay as they are
    try:
        assert main() == 2
        assert sys.getswitchinterval() < before
    finally:
        sys.setswitchinterval(before)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.startswith("vitrail: nowhere.mp4 ") for line in said.err.splitlines()] == [True, True]
