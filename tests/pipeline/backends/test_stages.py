"""Stages: each serves from when it is there until a better one is, and one that fails leaves the one before it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from pipeline.backends import AccelerationError, accelerate, inductor
from pipeline.backends.backend import Tensors
from pipeline.backends.graphs import Function, GraphBackend, Stage
from pipeline.backends.selection import _best
from pipeline.models.model import Model
from tests.pipeline.backends.small_network import SmallNetwork
from tests.tiny_model import tiny_model

MOVING, STAYING = {"rows": torch.ones(2, 4)}, {"shift": torch.zeros(2, 4)}


class Gated:
    """A stage that is done when it is let, and adds a number of its own to what the network gives."""

    def __init__(self, name: str, number: float) -> None:
        self.gate = threading.Event()
        self.problem: Exception | None = None
        self.fails = False
        self.stopped = False
        self._number = number
        self.stage = Stage(name, self._optimise, f"{name} under way", stop=self._stop)

    def _stop(self) -> None:
        self.stopped = True
        self.gate.set()

    def _optimise(self, module: torch.nn.Module, _: Tensors) -> Function:
        assert self.gate.wait(30)
        if self.problem is not None:
            raise self.problem

        def function(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            if self.fails:
                raise RuntimeError("no longer")
            return {"output": module(**tensors)["output"] + self._number}

        return function


class Staged:
    """A backend of two stages, and which of them answers: 0 for none, 1 or 2."""

    def __init__(self) -> None:
        self.first, self.second = Gated("quick", 100), Gated("good", 200)
        self.network = SmallNetwork()
        self.backend = GraphBackend(tiny_model(), "staged", self.first.stage, self.second.stage)
        self.plain = float(self.network.module()(**MOVING, **STAYING)["output"][0, 0])

    def answering(self) -> int:
        with torch.inference_mode():
            output = self.backend.run(self.network, MOVING, STAYING)["output"]
        return round((float(output[0, 0]) - self.plain) / 100)

    def let(self, stage: Gated) -> None:
        """Have it done, and wait until it is."""
        spec = self.backend._last["small"].spec
        builder = self.backend._pictures[0 if stage is self.first else 1]
        stage.gate.set()
        builder.wait()
        assert not builder.building(spec)


@pytest.fixture
def staged() -> Staged:
    return Staged()


def test_each_serves_until_a_better_one_is_there(staged: Staged) -> None:
    assert staged.answering() == 0
    assert staged.backend.progress() == "eager, quick under way 1 of 1"
    staged.let(staged.first)
    assert staged.answering() == 1
    assert staged.backend.progress() == "quick, good under way 1 of 1"
    staged.let(staged.second)
    assert staged.answering() == 2
    assert staged.backend.progress() == "good"
    assert staged.backend.news() == []
    staged.backend.close()


def test_a_better_one_that_is_there_first_is_taken(staged: Staged) -> None:
    """As one is that an earlier start has left on the disk."""
    assert staged.answering() == 0
    staged.let(staged.second)
    assert staged.answering() == 2
    staged.first.gate.set()
    staged.backend.close()


def test_one_that_cannot_be_had_leaves_the_one_before_it(staged: Staged) -> None:
    staged.second.problem = RuntimeError("no compiler")
    assert staged.answering() == 0
    staged.let(staged.first)
    staged.let(staged.second)
    assert staged.answering() == 1
    assert staged.backend.news() == ["good cannot run the small; quick does, more slowly: no compiler"]
    assert staged.backend.progress() == "quick"
    staged.backend.close()


def test_one_that_fails_while_it_runs_hands_over_to_the_one_before_it(staged: Staged) -> None:
    staged.answering()
    staged.let(staged.first)
    staged.let(staged.second)
    staged.second.fails = True
    assert staged.answering() == 0, "this picture is PyTorch's own"
    assert staged.answering() == 1
    assert staged.backend.news() == ["good failed while it ran the small; quick does, more slowly: no longer"]
    staged.backend.close()


def test_a_film_waits_for_the_best(staged: Staged) -> None:
    """All of its pictures are then drawn by the same engines."""
    staged.backend.patient = True
    threading.Timer(0.1, staged.second.gate.set).start()
    assert staged.answering() == 2
    staged.backend.close()


def test_where_the_best_cannot_be_had_a_film_takes_the_next(staged: Staged) -> None:
    staged.backend.patient = True
    staged.second.problem = RuntimeError("no compiler")
    staged.first.gate.set()
    staged.second.gate.set()
    assert staged.answering() == 1
    staged.backend.close()


def test_closing_stops_what_is_being_built(staged: Staged) -> None:
    staged.answering()
    staged.backend.close()
    assert staged.first.stopped
    assert staged.second.stopped


def on_cuda() -> Model:
    """A model that says it is on a card; nothing of it is run."""
    return replace(tiny_model(), device=torch.device("cuda"))


def test_on_cuda_graphs_come_first_and_compiled_networks_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor, "check_compiler", lambda _: None)
    for backend in (_best(on_cuda(), None), accelerate(on_cuda(), "compile")):
        assert isinstance(backend, GraphBackend)
        assert [stage.name for stage in backend._stages] == ["cuda-graphs", "compile"]
        backend.close()


def test_without_a_compiler_graphs_serve_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Model) -> None:
        raise AccelerationError("torch.compile needs triton for CUDA")

    monkeypatch.setattr(inductor, "check_compiler", missing)
    backend = _best(on_cuda(), None)
    assert isinstance(backend, GraphBackend)
    assert [stage.name for stage in backend._stages] == ["cuda-graphs"]
    (news,) = backend.news()
    assert news.endswith("torch.compile needs triton for CUDA")
    backend.close()
