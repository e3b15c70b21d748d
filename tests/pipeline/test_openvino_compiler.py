"""Compilations take turns, and those of the background make way; by a script in place of OpenVINO."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.acceleration import openvino_build
from pipeline.acceleration.openvino_compiler import Compiler, GaveWayError, StoppedError

# In the background it takes its time, until it is told to go.
SCRIPT = """
import json, pathlib, sys, time
job = json.loads(sys.argv[1])
graph, out = pathlib.Path(job["graph"]), pathlib.Path(job["out"])
graph.with_suffix(".began").touch()
while job["background"] and not graph.with_suffix(".go").exists():
    time.sleep(0.01)
if graph.stem == "bad":
    sys.exit("no such layer")
out.write_text(f"{graph.stem} {job['shapes']}")
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(openvino_build, "__file__", str(script))
    return Compiler()


def run(compiler: Compiler, graph: Path, background: bool) -> str:
    with compiler.turn(background):
        return compiler.compile(graph, "CPU", {}, [(1, 2)]).decode()


def began(graph: Path) -> None:
    while not graph.with_suffix(".began").exists():
        time.sleep(0.01)


def test_what_is_needed_now_ends_what_is_not(compiler: Compiler, tmp_path: Path) -> None:
    window, whole = tmp_path / "window", tmp_path / "whole"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run, compiler, window, True)
        began(window)
        assert run(compiler, whole, False) == "whole [[1, 2]]"
        with pytest.raises(GaveWayError):
            waiting.result(30)
        window.with_suffix(".go").touch()
        assert threads.submit(run, compiler, window, True).result(30) == "window [[1, 2]]"


def test_the_background_waits_for_all_that_is_needed_now(compiler: Compiler) -> None:
    order: list[str] = []

    def take(name: str, background: bool) -> None:
        with compiler.turn(background):
            order.append(name)

    with compiler.turn():
        threads = [threading.Thread(target=take, args=one) for one in (("window", True), ("other", False))]
        threads[0].start()
        threads[1].start()
        while compiler._urgent < 2:
            time.sleep(0.01)
    for thread in threads:
        thread.join(30)
    assert order == ["other", "window"]


def test_what_is_stopped_is_said_to_be(compiler: Compiler, tmp_path: Path) -> None:
    window = tmp_path / "window"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run, compiler, window, True)
        began(window)
        compiler.stop()
        with pytest.raises(StoppedError):
            waiting.result(30)
    with pytest.raises(StoppedError):
        run(compiler, window, False)


def test_a_complaint_is_handed_on(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such layer"):
        run(compiler, tmp_path / "bad", False)
    assert run(compiler, tmp_path / "good", False) == "good [[1, 2]]"
