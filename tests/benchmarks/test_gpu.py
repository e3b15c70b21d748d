"""``.ci/gpu verify`` without a GPU: its parts on tiny models, and that none can harm another or lose what it found."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.benchmarks import gpu
from tests.benchmarks.gpu_parts import targets
from tests.benchmarks.gpu_parts.job import Job, Results

MEASURED = ("prepare", "speed", "guidance", "embedded", "sdxl", "sparse")


@dataclass(frozen=True)
class Scripted(gpu.Part):
    """A part whose process writes down what it was told, and then runs ``script``."""

    script: str = ""

    def command(self, folder: Path, seconds: float) -> list[str]:
        found = json.dumps({"seconds": seconds})
        begin = f"import os, subprocess, sys, time; open({str(folder / self.name) + '.json'!r}, 'w').write({found!r})"
        return [sys.executable, "-S", "-c", f"{begin}\n{self.script}"]


def run(parts: Sequence[gpu.Part], folder: Path, budget: float = 100) -> tuple[list[tuple[str, Any]], str]:
    """What came of each part at last, in the order in which they ended; and the log."""
    log = BytesIO()
    seen = list(gpu.outcomes(parts, folder, budget, os.environ, log))
    last = [(name, one) for name, one in seen if one is None or one["ok"] is not None]
    return last, log.getvalue().decode()


def test_what_fails_or_hangs_leaves_the_others_alone_and_loses_nothing(tmp_path: Path) -> None:
    parts = (
        Scripted("fails", 0, 50, script="print('why it failed'); sys.exit(3)"),
        Scripted("hangs", 0, 1, script="time.sleep(1000)"),
        Scripted("works", 0, 50, script="print('well')"),
    )
    ended, log = run(parts, tmp_path)
    found = dict(ended)
    assert [found[name]["ok"] for name in ("fails", "hangs", "works")] == [False, False, True]
    assert all(one["results"]["seconds"] > 0 for one in found.values())
    assert found["fails"]["error"].splitlines()[0] == "exit code 3"
    assert found["fails"]["error"].splitlines()[-1] == "why it failed"
    assert found["hangs"]["error"].startswith("it was not done after 1 s")
    assert {"why it failed", "well"} <= {*log.splitlines()}


def test_whatever_a_part_has_started_ends_with_it(tmp_path: Path) -> None:
    """Else a worker of a part that hangs would disturb all that is measured after it."""
    noted = tmp_path / "child"
    script = f"""
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
open({str(noted)!r}, "w").write(str(child.pid))
"""
    ended, _ = run([Scripted("starts", 0, 50, script=script)], tmp_path)
    assert ended[0][1]["ok"]
    child = psutil.Process(int(noted.read_text())) if psutil.pid_exists(int(noted.read_text())) else None
    while child is not None and child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)  # as long as it takes the system to end it; without end where nobody told it to


def test_time_is_kept_for_those_that_come_later_and_who_does_not_fit_is_left_out(tmp_path: Path) -> None:
    parts = (
        Scripted("first", least=10, most=1000),
        Scripted("too long", least=200, most=1000),
        Scripted("last", least=30, most=40),
    )
    ended, _ = run(parts, tmp_path, budget=300)
    found = dict(ended)
    assert 10 <= found["first"]["results"]["seconds"] <= 300 - 200 - 30
    assert found["last"]["results"]["seconds"] == 40
    found = dict(run(parts, tmp_path, budget=150)[0])
    assert found["too long"] is None
    assert found["first"]["ok"]
    assert found["last"]["ok"]


def test_one_runs_beside_the_next_and_alone_before_any_other(tmp_path: Path) -> None:
    """The models are made beside the tests, but never beside a part that needs them."""
    ready = tmp_path / "ready"
    waits = f"while not os.path.exists({str(ready)!r}): time.sleep(0.01)"
    prepare = Scripted("prepare", 0, 50, beside="tests", script=waits)
    tests = Scripted("tests", 0, 50, script=f"open({str(ready)!r}, 'w')")
    assert [name for name, _ in run((prepare, tests), tmp_path)[0]] == ["tests", "prepare"]
    speed = Scripted("speed", 0, 50)
    assert [name for name, _ in run((prepare, speed), tmp_path)[0]] == ["prepare", "speed"]


def test_the_command_writes_what_it_finds_and_fails_where_a_part_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Scripted("tests", 0, 50), Scripted("speed", 0, 50, script="sys.exit('no memory')")
    out = tmp_path / "out"

    def command(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["gpu", str(out), "--tiny", *arguments])
        gpu.main()
        return json.loads((out / "verify.json").read_text(encoding="utf-8"))

    monkeypatch.setattr(gpu, "PARTS", (good,))
    report = command()
    assert report["parts"]["tests"]["ok"]
    assert report["machine"]["cpu"]
    assert report["left_out"] == []
    assert len(capsys.readouterr().out.splitlines()) <= 60

    monkeypatch.setattr(gpu, "PARTS", (good, bad))
    with pytest.raises(SystemExit, match="1"):
        command()
    shown = capsys.readouterr().out
    assert "speed failed: exit code 1" in shown
    assert "no memory" in shown
    assert "no memory" in (out / "verify.log").read_text(encoding="utf-8")

    for wrong in (("--peers", str(tmp_path / "nowhere")), ("--only", "nothing")):
        with pytest.raises(SystemExit, match="2"):
            command(*wrong)


def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path / "a file"), "--tiny"])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "a file cannot be made: File exists" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_card_only_a_tiny_run_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "PARTS", (Scripted("tests", 0, 50, script="time.sleep(1000)"),))
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "--tiny tries the command" in capsys.readouterr().err


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A tiny run."""
    return Job(tmp_path_factory.mktemp("job"), seconds=600, tiny=True, parts=MEASURED)


def test_every_part_finds_what_the_summary_looks_for(job: Job) -> None:
    """All that a CPU can show: it has no CUDA graphs, and the other program's packages are not here."""
    results = {}
    for name in MEASURED:
        found = Results(job.folder / f"{name}.json")
        import_module(f"tests.benchmarks.gpu_parts.{name}").measure(job, found)
        results[name] = Results.read(job.folder / f"{name}.json")
        assert results[name] == json.loads(json.dumps(found.found))
    missing = {target.path for target, value in targets.figures(results) if value is None}
    assert {path for path in missing if path[0] != "peers" and "cuda-graphs" not in path} <= {
        ("speed", "T4", "auto", "latency_frames")
    }
    assert "needs a CUDA device" in results["speed"]["T1"]["cuda-graphs"]["error"]
