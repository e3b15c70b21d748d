"""What sparse inference asks of a backend, and on which devices it runs windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.backends.backend import Tensors
from pipeline.backends.eager import EagerBackend
from pipeline.models.networks import Network
from pipeline.sparse.engine import SparseEngine
from pipeline.sparse.networks import SparseNetworks
from pipeline.sparse.stopwatch import HostStopwatch
from tests.tiny_model import tiny_model


def test_windows_are_run_where_their_costs_can_be_measured() -> None:
    networks = SparseNetworks(tiny_model(), EagerBackend(tiny_model()))
    assert networks.obstacle is None
    assert networks.stopwatch is HostStopwatch


def test_where_costs_cannot_be_measured_whole_pictures_are_computed_and_the_user_is_told() -> None:
    engine = SparseEngine(replace(tiny_model(), device=torch.device("mps")), EagerBackend(tiny_model()))
    assert engine.shares() == {}
    assert [note.startswith("sparse: on mps it cannot be measured") for note in engine.notes] == [True]


def test_on_a_cpu_pictures_are_given_to_the_backend_as_they_are() -> None:
    given: list[torch.Tensor] = []

    class Noting(EagerBackend):
        def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
            given.extend(moving.values())
            return super().run(network, moving, staying)

    picture = torch.rand(1, 3, 16, 16)
    SparseNetworks(tiny_model(), Noting(tiny_model())).encode(picture)
    assert [one is picture for one in given] == [True]


def test_no_pictures_before_there_are_frames() -> None:
    with pytest.raises(ValueError, match="no frames yet"):
        _ = SparseEngine(tiny_model(), EagerBackend(tiny_model())).pictures
