"""Lanes, on streams that only note what waits for what; and when a stream of pictures uses them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipeline import Stream, StreamConfig
from pipeline.lanes import Lanes
from tests.tiny_model import tiny_model


class Queue:
    """In the place of a CUDA stream: notes what it is asked for, and what has come before on whichever it waits for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: set[str] = set()  # all that comes before what is asked for next

    def wait_stream(self, other: Queue) -> None:
        self.done |= other.done

    def ask(self, what: str) -> set[str]:
        """What is certain to have been done before this."""
        before = set(self.done)
        self.done.add(what)
        return before


class OnDevice:
    """A tensor of which it is noted who reads it."""

    device = torch.device("cuda")

    def __init__(self) -> None:
        self.read_on: list[Queue] = []

    def record_stream(self, queue: Queue) -> None:
        self.read_on.append(queue)


class Device:
    """In the place of ``torch.cuda``: the caller's stream, and those that are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.callers = Queue("caller")
        self.made = 0
        monkeypatch.setattr(torch.cuda, "Stream", self._make)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _=None: self.now)
        monkeypatch.setattr(torch.cuda, "stream", self._inside)

    def _make(self, _: torch.device) -> Queue:
        self.made += 1
        return Queue(str(self.made))

    @contextlib.contextmanager
    def _inside(self, queue: Queue) -> Iterator[None]:
        before, self.now = self.now, queue
        yield
        self.now = before


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def frame(lanes: Lanes, device: Device, number: int) -> dict[str, set[str]]:
    """One frame as a stream runs it; what is certain to have been done before each of its stages."""
    before = {}
    for lane, after in (("encode", None), ("denoise", "encode"), ("decode", "denoise")):
        with lanes(lane, after=after):
            before[lane] = device.now.ask(f"{lane} {number}")
    return before


def test_stages_of_a_frame_follow_each_other_and_those_of_others_do_not_wait(device: Device) -> None:
    lanes = Lanes(torch.device("cuda"))
    lanes.fork()
    frame(lanes, device, 0)
    frame(lanes, device, 1)
    before = frame(lanes, device, 2)
    assert "encode 2" in before["denoise"]
    assert "denoise 2" in before["decode"]
    assert before["encode"] == {"encode 0", "encode 1"}, "the encoder waits for no denoiser"
    assert not any(done.startswith("decode") for done in before["denoise"]), "the denoiser waits for no decoder"


def test_whoever_joins_comes_after_all_of_them(device: Device) -> None:
    lanes = Lanes(torch.device("cuda"))
    lanes.fork()
    frame(lanes, device, 0)
    lanes.join()
    assert device.callers.ask("picture") == {"encode 0", "denoise 0", "decode 0"}


def test_a_change_comes_after_the_frames_before_and_before_those_after(device: Device) -> None:
    lanes = Lanes(torch.device("cuda"))
    lanes.fork()
    frame(lanes, device, 0)
    lanes.leave()
    assert {"encode 0", "denoise 0", "decode 0"} <= device.callers.ask("change")
    lanes.fork()
    before = frame(lanes, device, 1)
    assert all("change" in done for done in before.values())


def test_apart_no_more_all_runs_on_the_callers_stream(device: Device) -> None:
    lanes = Lanes(torch.device("cuda"))
    lanes.fork()
    frame(lanes, device, 0)
    lanes.leave()
    with lanes("denoise", after="encode"):
        assert device.now is device.callers


def test_what_another_lane_has_made_stays_in_memory_until_it_is_read(device: Device) -> None:
    lanes, latent, picture = Lanes(torch.device("cuda")), OnDevice(), OnDevice()
    lanes.fork()
    with lanes("denoise", latent, after="encode"):  # type: ignore[arg-type]
        assert latent.read_on == [device.now]
    lanes.hand_over(picture)  # type: ignore[arg-type]
    assert picture.read_on == [device.callers]


def test_elsewhere_nothing_is_apart() -> None:
    lanes = Lanes(torch.device("cpu"))
    lanes.fork()
    assert not lanes.apart
    with lanes("encode", torch.zeros(1), after="decode"):
        pass
    lanes.join()
    lanes.leave()


class Noting(Lanes):
    """Notes whether each call of a stream ran its stages on their lanes."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.noted: list[str] = []

    def fork(self) -> None:
        self.noted.append("fork")

    def leave(self) -> None:
        self.noted.append("leave")


PLAIN = StreamConfig(prompt="a", steps=2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PLAIN, "fork"),
        (replace(PLAIN, similarity_filter=True), "fork"),
        (replace(PLAIN, sparse=True), "leave"),
        (replace(PLAIN, text_to_image=True), "leave"),
    ],
)
def test_frames_part_lanes_where_nothing_else_is_done_between(config: StreamConfig, expected: str) -> None:
    stream = Stream(tiny_model(), config)
    stream._lanes = noting = Noting()
    for _ in range(3):
        stream(torch.rand(3, 32, 32))
    assert noting.noted[-2:] == [expected] * 2


def test_a_change_of_settings_leaves_the_lanes_first() -> None:
    stream = Stream(tiny_model(), PLAIN)
    stream._lanes = noting = Noting()
    for _ in range(2):
        stream(torch.rand(3, 32, 32))
    noting.noted.clear()
    stream.configure(replace(PLAIN, strength=0.3))
    assert noting.noted[0] == "leave"
    stream(torch.rand(3, 32, 32))
    assert noting.noted[-1] == "fork"
