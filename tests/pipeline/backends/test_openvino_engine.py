"""How a compiled graph is given its inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

openvino = pytest.importorskip("openvino")

from pipeline.backends.openvino.engine import Engine  # noqa: E402
from pipeline.backends.openvino.graph import write_graph  # noqa: E402
from pipeline.backends.spec import Spec  # noqa: E402
from pipeline.conditioning.conditions import Conditions  # noqa: E402


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor, count: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"product": x * scale, "sum": x + count}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path: Path = tmp_path_factory.mktemp("graph") / "graph.xml"
    staying = (("scale", torch.float32, (1, 3)), ("count", torch.int64, (1,)))
    write_graph(Scaled(), Spec("scaled", "denoiser", (("x", torch.float32, (1, 3)),), staying), path)
    return Engine(openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))


def call(engine: Engine, x: torch.Tensor, scale: torch.Tensor, count: torch.Tensor) -> tuple[list, list]:
    found = engine({"x": x}, {"scale": scale, "count": count})
    return found["product"].tolist(), found["sum"].tolist()


def test_what_moves_is_taken_anew_and_what_stays_where_it_lies(engine: Engine) -> None:
    x, scale, count = torch.ones(1, 3), torch.full((1, 3), 2.0), torch.tensor([5])
    first = engine({"x": x}, {"scale": scale, "count": count})
    assert first["product"].tolist() == [[2, 2, 2]]
    assert first["sum"].tolist() == [[6, 6, 6]]
    assert call(engine, x.mul(3), scale, count)[0] == [[6, 6, 6]]
    assert first["product"].tolist() == [[2, 2, 2]], "what was given before stays as it was"
    scale.fill_(-1)
    assert call(engine, x, scale, count)[0] == [[-1, -1, -1]]
    assert call(engine, x, torch.full((1, 3), 7.0), torch.tensor([1]))[1] == [[2, 2, 2]]


def test_conditions_that_are_the_same_object_are_not_looked_at_again(engine: Engine) -> None:
    x, count = torch.ones(1, 3), torch.tensor([0])
    conditions = Conditions({"scale": torch.full((1, 3), 2.0), "count": count})
    for _ in range(2):
        assert engine({"x": x}, conditions)["product"].tolist() == [[2, 2, 2]]
    others = Conditions({"scale": torch.full((1, 3), 4.0), "count": count})
    assert engine({"x": x}, others)["product"].tolist() == [[4, 4, 4]]
    assert engine({"x": x}, conditions)["product"].tolist() == [[2, 2, 2]]


def test_other_kinds_of_numbers_are_converted(engine: Engine) -> None:
    x = torch.full((1, 3), 0.5, dtype=torch.bfloat16)
    transposed = torch.arange(3.0).view(3, 1).T
    assert call(engine, x, transposed, torch.tensor([0]))[0] == [[0, 0.5, 1]]
    x.fill_(2)
    assert call(engine, x, transposed.half(), torch.tensor([0]))[0] == [[0, 2, 4]]


def test_an_input_may_move_after_it_has_stayed(engine: Engine) -> None:
    x, scale, count = torch.ones(1, 3), torch.full((1, 3), 3.0, dtype=torch.float16), torch.tensor([0])
    call(engine, x, scale, count)
    engine({"x": x, "scale": torch.zeros(1, 3), "count": count}, {})
    assert call(engine, x, scale, count)[0] == [[3, 3, 3]]
