"""Compilations take turns, and those of the background make way; by a script in place of OpenVINO."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.backends.openvino import build as openvino_build
from pipeline.backends.openvino import compiler as openvino_compiler
from pipeline.backends.openvino.compiler import Compiler, GaveWayError, StoppedError

# In the background it takes its time, until it is told to go; and some graphs it cannot stand.
SCRIPT = """
import json, os, pathlib, sys, time
background = "background" in sys.argv
for line in sys.stdin:
    job = json.loads(line)
    graph, out = pathlib.Path(job["graph"]), pathlib.Path(job["out"])
    graph.with_suffix(".began").touch()
    if graph.stem == "endless":
        time.sleep(60)
    while background and not graph.with_suffix(".go").exists():
        time.sleep(0.01)
    if graph.stem == "deadly" or graph.stem == "fused" and "SNIPPETS_MODE" not in job["config"]:
        os.abort()
    out.write_text(json.dumps([graph.stem, job["shapes"], os.getpid()]))
    print(json.dumps({"error": "no such layer"} if graph.stem == "bad" else {}), flush=True)
    if graph.stem == "last":
        break
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(openvino_build, "__file__", str(script))
    made = Compiler()
    yield made
    made.stop()


def run(compiler: Compiler, graph: Path, background: bool = False) -> int:
    """The process that has compiled it."""
    with compiler.turn(background):
        blob = compiler.compile(graph, graph.with_suffix(".blob"), "CPU", {}, [(1, 2)])
    name, shapes, process = json.loads(blob)
    assert (name, shapes) == (graph.stem, [[1, 2]])
    return process


def began(graph: Path) -> None:
    while not graph.with_suffix(".began").exists():
        time.sleep(0.01)


def test_what_is_needed_now_ends_what_is_not(compiler: Compiler, tmp_path: Path) -> None:
    window, whole = tmp_path / "window", tmp_path / "whole"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run, compiler, window, True)
        began(window)
        run(compiler, whole)
        with pytest.raises(GaveWayError):
            waiting.result(30)
        window.with_suffix(".go").touch()
        threads.submit(run, compiler, window, True).result(30)


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
        run(compiler, window)


def test_a_complaint_is_handed_on(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such layer"):
        run(compiler, tmp_path / "bad")
    run(compiler, tmp_path / "good")


def test_a_process_does_one_after_the_other(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "window.go").touch()
    window = tmp_path / "window"
    first, other = run(compiler, tmp_path / "whole"), run(compiler, window, True)
    assert first != other, "one has stepped back, and cannot come forward again"
    assert (run(compiler, tmp_path / "whole"), run(compiler, window, True)) == (first, other)


def test_one_that_has_ended_is_begun_again(compiler: Compiler, tmp_path: Path) -> None:
    first = run(compiler, tmp_path / "last")
    assert run(compiler, tmp_path / "whole") != first


def test_what_it_crashes_on_is_tried_without_fused_kernels_and_then_given_up(
    compiler: Compiler, tmp_path: Path
) -> None:
    run(compiler, tmp_path / "fused")
    with pytest.raises(RuntimeError, match="crashed"):
        run(compiler, tmp_path / "deadly")
    run(compiler, tmp_path / "whole")


def test_what_ends_at_once_is_not_begun_for_ever(compiler: Compiler, tmp_path: Path) -> None:
    Path(openvino_build.__file__).write_text("")
    with pytest.raises(RuntimeError, match="crashed"):
        run(compiler, tmp_path / "whole")


def test_what_takes_too_long_is_ended(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_compiler, "_SECONDS", 0.5)
    with pytest.raises(RuntimeError, match="not done after"):
        run(compiler, tmp_path / "endless")


def test_each_job_has_its_answer_whatever_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(graph: str) -> None:
        if graph == "bad":
            raise RuntimeError("where it happened\nno such layer\n")

    monkeypatch.setattr(openvino_build, "build", build)
    jobs, answers = io.StringIO('{"graph": "good"}\n{"graph": "bad"}\nnonsense\n{"graph": "good"}\n'), io.StringIO()
    openvino_build.serve(jobs, answers)
    errors = [json.loads(answer).get("error", "") for answer in answers.getvalue().splitlines()]
    assert [error[:9] for error in errors] == ["", "no such l", "Expecting", ""]


def test_the_process_ends_when_nothing_comes_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_build, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(openvino_build, "build", lambda **_: None)
    readable, writable = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
    answers = io.StringIO()
    with readable, writable:
        writable.write("{}\n")
        writable.flush()
        openvino_build.serve(readable, answers)
        writable.close()  # the thread that reads comes to its end
    assert answers.getvalue() == "{}\n"
