"""Engines are built once, one after the other, beside whoever asks for them."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from pipeline.backends import builder as builder_module
from pipeline.backends.builder import Builder
from pipeline.backends.spec import Spec


def spec(network: str, size: int = 8, part: str = "denoiser") -> Spec:
    return Spec(network, part, (("x", torch.float32, (1, 3, size, size)),))


class Held:
    """A build that begins and does not end before ``go`` is set; notes what it has built, in turn."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self.built: list[str] = []

    def __call__(self, wanted: Spec) -> str:
        self.started.set()
        assert self.go.wait(30)
        self.built.append(wanted.network)
        return wanted.network


def test_an_engine_is_built_once_and_never_waited_for() -> None:
    go, built = threading.Event(), []

    def build(wanted: Spec) -> str:
        assert go.wait(30)
        built.append(wanted)
        return wanted.network

    builder: Builder[str] = Builder(build, "test")
    assert [builder.get(spec("a")) for _ in range(3)] == [None] * 3
    assert builder.get(spec("b")) is None
    go.set()
    builder.wait()
    assert builder.get(spec("a")) == "a"
    assert builder.ready() == {spec("a"): "a", spec("b"): "b"}
    assert built == [spec("a"), spec("b")]
    builder.close()


def test_only_the_engines_used_last_are_kept_and_others_built_again_where_wanted() -> None:
    built = []

    def build(wanted: Spec) -> str:
        built.append(wanted.network)
        return wanted.network

    builder: Builder[str] = Builder(build, "test", most=2)
    for name in ("a", "b", "a", "c"):  # "a" is asked for again, which makes "b" the one unused for longest
        builder.get(spec(name))
        builder.wait()
    assert builder.ready() == {spec("a"): "a", spec("c"): "c"}
    assert builder.get(spec("b")) is None
    builder.wait()
    assert builder.get(spec("b")) == "b"
    assert built == ["a", "b", "c", "b"]
    builder.close()


def test_what_was_ordered_last_is_built_first() -> None:
    build = Held()
    builder: Builder[str] = Builder(build, "test")
    builder.get(spec("a"))
    assert build.started.wait(30)
    for name in ("b", "c"):
        builder.get(spec(name))
    build.go.set()
    builder.wait()
    assert build.built == ["a", "c", "b"]
    builder.close()


def test_few_wait_where_few_may_though_many_are_kept() -> None:
    """A compiler that takes a minute is not to work through every size that a user has passed by."""
    build = Held()
    builder: Builder[str] = Builder(build, "test", most=10, waiting=2)
    builder.get(spec("a"))
    assert build.started.wait(30)
    for name in ("b", "c", "d"):
        builder.get(spec(name))
    build.go.set()
    builder.wait()
    assert build.built == ["a", "d", "c"]
    assert builder.get(spec("b")) is None, "it is ordered again where it is asked for again"
    builder.wait()
    assert len(builder.ready()) == 4
    builder.close()


def test_several_are_built_at_a_time_where_that_is_asked_for() -> None:
    meeting = threading.Barrier(3, timeout=30)

    def build(wanted: Spec) -> str:
        meeting.wait()  # all three are here at once, or none gets any further
        return wanted.network

    builder: Builder[str] = Builder(build, "test", threads=3)
    for name in ("a", "b", "c"):
        builder.get(spec(name))
    builder.wait()
    assert len(builder.ready()) == 3
    builder.close()


def test_what_cannot_be_built_is_said_once_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def build(wanted: Spec) -> str:
        raise RuntimeError(f"no {wanted.network}")

    builder: Builder[str] = Builder(build, "test")
    for _ in range(3):
        assert builder.get(spec("a")) is None
        builder.wait()
    assert caplog.text.count("no a") == 1
    assert builder.news() == ["test cannot run the a; PyTorch does, more slowly: no a"]
    builder.get(spec("a", 64))  # another size of the same part
    builder.wait()
    assert builder.news() == []
    builder.clear()  # with other weights it may do, or fail anew
    builder.get(spec("a"))
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
    builder.get(spec("a"))
    assert started.wait(30)
    builder.clear()
    go.set()
    builder.wait()
    assert builder.ready() == {}
    assert "given up" not in caplog.text
    starts.append(2)
    assert builder.get(spec("a")) is None
    builder.wait()
    assert builder.get(spec("a")) == "new"
    builder.close()


def test_a_process_that_ends_lets_a_build_come_to_its_end() -> None:
    """Ended inside of a library written in C++, the thread would take the process down with it."""
    code = """
import threading
import torch
from pipeline.backends.builder import Builder
from pipeline.backends.spec import Spec
began, ending = threading.Event(), threading.Event()
def build(_):
    began.set()
    threading.main_thread().join()
    ending.wait(0.5)
    print("done", flush=True)
builder = Builder(build, "test")
for name in "ab":
    builder.get(Spec(name, "denoiser", (("x", torch.float32, (1,)),)))
began.wait()
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout == "done\n", "the one that was being built, and no other"


@pytest.mark.parametrize(("works_at", "expected"), [(2, "engine"), (9, None)])
def test_what_failed_is_tried_once_more_after_a_while(
    works_at: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build may have been in its way, or memory was short."""
    attempts = []

    def build(wanted: Spec) -> str:
        attempts.append(wanted)
        if len(attempts) < works_at:
            raise RuntimeError("not now")
        return "engine"

    builder: Builder[str] = Builder(build, "test")
    for _ in range(2):
        builder.get(spec("a"))
        builder.wait()
    assert len(attempts) == 1, "not at once"
    monkeypatch.setattr(builder_module, "RETRY_SECONDS", 0.0)
    for _ in range(3):
        builder.get(spec("a"))
        builder.wait()
    assert builder.get(spec("a")) == expected
    assert len(attempts) == 2
    builder.close()


def test_other_weights_of_one_part_leave_the_engines_of_the_others() -> None:
    builder: Builder[str] = Builder(lambda wanted: wanted.network, "test")
    for one in (spec("unet"), spec("encoder", part="autoencoder")):
        builder.get(one)
    builder.wait()
    builder.clear("denoiser")
    assert list(builder.ready().values()) == ["encoder"]
    assert builder.get(spec("unet")) is None
    builder.wait()
    assert builder.get(spec("unet")) == "unet"
    builder.close()


def test_whoever_is_patient_waits_for_the_engine_and_not_for_one_that_cannot_be() -> None:
    def build(wanted: Spec) -> str:
        if wanted.network == "bad":
            raise RuntimeError("no")
        return wanted.network

    builder: Builder[str] = Builder(build, "test")
    assert builder.get(spec("good"), patient=True) == "good"
    assert builder.get(spec("bad"), patient=True) is None
    builder.close()


def test_nobody_waits_for_a_builder_that_was_closed() -> None:
    started, go = threading.Event(), threading.Event()

    def build(_: Spec) -> str:
        started.set()
        assert go.wait(30)
        return "in vain"

    builder: Builder[str] = Builder(build, "test")
    for name in "abc":
        builder.get(spec(name))
    assert started.wait(30)
    builder.close()
    go.set()
    builder.wait()
    assert builder.get(spec("a"), patient=True) is None
    assert builder.ready() == {}


def test_an_engine_that_fails_while_it_runs_is_given_up_and_told() -> None:
    builder: Builder[str] = Builder(lambda wanted: wanted.network, "test")
    builder.get(spec("a"))
    builder.wait()
    builder.failed(spec("a"), RuntimeError("broken\nand more"))
    assert builder.get(spec("a")) is None
    assert builder.news() == ["test failed while it ran the a; PyTorch does, more slowly: broken"]
    builder.close()


def test_orders_that_nothing_will_come_of_do_not_pile_up() -> None:
    """A window that is dragged asks for a size a frame; what would be given up again unused is not built."""
    build = Held()
    builder: Builder[str] = Builder(build, "test", most=2)
    builder.get(spec("first"))
    assert build.started.wait(30)
    for name in "abcdef":
        builder.get(spec(name))
    build.go.set()
    builder.wait()
    assert build.built == ["first", "f", "e"]
    assert builder.get(spec("a")) is None
    builder.wait()
    assert builder.get(spec("a")) == "a", "asked for again, it is built"
    builder.close()
