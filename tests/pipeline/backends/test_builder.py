"""Engines are built once, one after the other, beside whoever asks for them."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pipeline.backends.builder import Builder, Spec


def test_an_engine_is_built_once_and_never_waited_for() -> None:
    go, built = threading.Event(), []

    def build(spec: Spec) -> str:
        assert go.wait(30)
        built.append(spec)
        return str(spec[0])

    builder: Builder[str] = Builder(build, "test")
    assert [builder.get(("a",)) for _ in range(3)] == [None] * 3
    assert builder.get(("b",)) is None
    go.set()
    builder.wait()
    assert builder.get(("a",)) == "a"
    assert builder.ready() == {("a",): "a", ("b",): "b"}
    assert built == [("a",), ("b",)]
    builder.close()


def test_only_the_engines_used_last_are_kept_and_others_built_again_where_wanted() -> None:
    built = []

    def build(spec: Spec) -> str:
        built.append(spec[0])
        return str(spec[0])

    builder: Builder[str] = Builder(build, "test", most=2)
    for name in ("a", "b", "a", "c"):  # "a" is asked for again, which makes "b" the one unused for longest
        builder.get((name,))
        builder.wait()
    assert builder.ready() == {("a",): "a", ("c",): "c"}
    assert builder.get(("b",)) is None
    builder.wait()
    assert builder.get(("b",)) == "b"
    assert built == ["a", "b", "c", "b"]
    builder.close()


def test_what_was_ordered_last_is_built_first() -> None:
    started, go, built = threading.Event(), threading.Event(), []

    def build(spec: Spec) -> str:
        started.set()
        assert go.wait(30)
        built.append(spec[0])
        return str(spec[0])

    builder: Builder[str] = Builder(build, "test")
    builder.get(("a",))
    assert started.wait(30)
    for name in ("b", "c"):
        builder.get((name,))
    go.set()
    builder.wait()
    assert built == ["a", "c", "b"]
    builder.close()


def test_what_cannot_be_built_is_said_once_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def build(spec: Spec) -> str:
        raise RuntimeError(f"no {spec[0]}")

    builder: Builder[str] = Builder(build, "test")
    for _ in range(3):
        assert builder.get(("a",)) is None
        builder.wait()
    assert caplog.text.count("no a") == 1
    assert builder.news() == ["test cannot run the a; PyTorch does, more slowly: no a"]
    builder.get(("a", 64))  # another size of the same part
    builder.wait()
    assert builder.news() == []
    builder.clear()  # with other weights it may do, or fail anew
    builder.get(("a",))
    builder.wait()
    assert len(builder.news()) == 1
    builder.close()


def test_an_engine_of_weights_that_are_gone_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    started, go = threading.Event(), threading.Event()

    def build(_: Spec) -> str:
        started.set()
        assert go.wait(30)
        if len(starts) == 1:
            raise RuntimeError("given up")
        return "new"

    starts = [1]
    builder: Builder[str] = Builder(build, "test")
    builder.get(("a",))
    assert started.wait(30)
    builder.clear()
    go.set()
    builder.wait()
    assert builder.ready() == {}
    assert "given up" not in caplog.text
    starts.append(2)
    assert builder.get(("a",)) is None
    builder.wait()
    assert builder.get(("a",)) == "new"
    builder.close()


def test_a_process_that_ends_lets_a_build_come_to_its_end() -> None:
    """Ended inside of a library written in C++, the thread would take the process down with it."""
    code = """
import threading
from pipeline.backends.builder import Builder
began, ending = threading.Event(), threading.Event()
def build(spec):
    began.set()
    threading.main_thread().join()
    ending.wait(0.5)
    print("done", flush=True)
builder = Builder(build, "test")
builder.get(("a",))
builder.get(("b",))
began.wait()
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout == "done\n", "the one that was being built, and no other"
