"""Nothing listens, and nothing is connected to, whether Vitrail renders, examines the machine or lacks a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import write_tiny_model


def uses_of_the_network(folder: Path, *command: str, codes: tuple[int, ...] = (0,), offline: str = "0") -> list[str]:
    """What ``network_guard`` saw of ``vitrail COMMAND``, in a home that is empty and without any opting out."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DO_NOT_TRACK"))}
    environment |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    environment |= {"VITRAIL_CACHE": str(folder / "engines"), "HF_HUB_OFFLINE": offline, "QT_QPA_PLATFORM": "offscreen"}
    report = folder / "seen.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.network_guard", str(report), *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize("acceleration", ["eager", "auto"])
def test_rendering_uses_no_network(tmp_path: Path, acceleration: str) -> None:
    model = write_tiny_model(tmp_path / "tiny", sees_input=True)
    command = ("render", "testcard:frames=12,width=64,height=64", str(tmp_path / "out.mp4"), "--prompt", "ink")
    flags = ("--model", str(model), "--height", "64", "--acceleration", acceleration)
    assert uses_of_the_network(tmp_path, *command, *flags) == []
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_the_doctor_uses_no_network(tmp_path: Path) -> None:
    assert uses_of_the_network(tmp_path, "doctor", codes=(0, 1)) == []


def test_a_model_that_is_not_here_is_only_asked_for_where_that_is_allowed(tmp_path: Path) -> None:
    command = ("render", "testcard:frames=2,width=64,height=64", str(tmp_path / "out.mp4"), "--prompt", "ink")
    command = (*command, "--model", "nobody-xyz/does-not-exist")
    assert uses_of_the_network(tmp_path, *command, codes=(2,), offline="1") == []


def test_the_guard_sees_what_it_is_there_for(tmp_path: Path) -> None:
    """Or all of the above would mean nothing: a server and its client are seen by both witnesses."""
    script = (
        "import runpy, socket, sys, time, app.cli\n"
        "def serve(_):\n"
        "    server = socket.create_server(('127.0.0.1', 0))\n"
        "    client = socket.create_connection(server.getsockname())\n"
        "    time.sleep(1)\n"
        "    client.close(), server.close()\n"
        "    return 0\n"
        "app.cli.main = serve\n"
        "runpy.run_module('tests.faults.network_guard', run_name='__main__')\n"
    )
    report = tmp_path / "seen.json"
    command = [sys.executable, "-c", script, str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(report.read_text(encoding="utf-8"))
    assert any(one.startswith("socket.connect") for one in seen)
    assert any("LISTEN" in one for one in seen)
