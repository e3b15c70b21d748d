"""torch.compile for each build on its own: a long session never falls back to eager unseen."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from pipeline.backends.graphs import GraphBackend
from pipeline.backends.inductor import with_inductor
from pipeline.models.residency import DENOISER
from tests.tiny_model import new_tiny_model, tiny_model

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here")


class Small(nn.Module):
    """Adds what it is told to a linear map of rows."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": torch.nn.functional.silu(rows @ self.weight) + others["shift"]}


class SmallNetwork:
    """Of one part of a model, whose weights are changed in place."""

    name, part, open_sizes, window = "small", DENOISER, False, False

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.eye(4), requires_grad=False)

    def module(self) -> nn.Module:
        return Small(self.weight)


class Branching(SmallNetwork):
    """One that cannot be a single graph."""

    name = "branching"

    def module(self) -> nn.Module:
        class Branches(Small):
            def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
                if rows.sum() > others["shift"].sum():
                    print(end="")  # noqa: T201 - which no graph can hold
                return super().forward(rows, **others)

        return Branches(self.weight)


@torch.inference_mode()
def test_twelve_builds_are_all_compiled() -> None:
    """Dynamo gives up a code object after eight builds of it, and all builds of a network share one."""
    backend, network = GraphBackend(tiny_model(), "compile", with_inductor), SmallNetwork()
    for rows in range(1, 13):
        moving, staying = {"rows": torch.randn(rows, 4)}, {"shift": torch.randn(rows, 4)}
        expected = network.module()(**moving, **staying)["output"]
        torch.testing.assert_close(backend.run(network, moving, staying)["output"], expected)
        backend.wait()
        assert backend.ready(network, moving, staying), rows
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(backend.run(network, moving, staying)["output"], expected)
    assert backend.news() == []
    backend.close()


@torch.inference_mode()
def test_weights_that_change_in_place_are_seen_without_another_build() -> None:
    model, network = new_tiny_model(), SmallNetwork()
    backend = GraphBackend(model, "compile", with_inductor)
    moving, staying = {"rows": torch.randn(2, 4)}, {"shift": torch.zeros(2, 4)}
    backend.run(network, moving, staying)
    backend.wait()
    for _ in range(3):
        with model.residency.changing(DENOISER):
            network.weight.mul_(1.5)
        expected = network.module()(**moving, **staying)["output"]
        assert backend.ready(network, moving, staying)
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch.testing.assert_close(backend.run(network, moving, staying)["output"], expected)
    backend.close()


@torch.inference_mode()
def test_what_cannot_be_compiled_as_a_whole_is_told() -> None:
    backend, network = GraphBackend(tiny_model(), "compile", with_inductor), Branching()
    moving, staying = {"rows": torch.randn(2, 4)}, {"shift": torch.zeros(2, 4)}
    backend.run(network, moving, staying)
    backend.wait()
    assert not backend.ready(network, moving, staying)
    (news,) = backend.news()
    assert news.startswith("compile cannot run the branching; PyTorch does, more slowly: ")
    backend.close()
