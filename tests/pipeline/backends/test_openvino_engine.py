"""How a compiled graph is given its inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

openvino = pytest.importorskip("openvino")

from pipeline.backends.openvino.engine import Engine  # noqa: E402
from pipeline.backends.openvino.graph import write_graph  # noqa: E402


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * scale, x + count


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path: Path = tmp_path_factory.mktemp("graph") / "graph.xml"
    examples = [torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64)]
    write_graph(Scaled(), examples, [[1, 3], [1, 3], [1]], path)
    return Engine(openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))


def test_what_moves_is_taken_anew_and_what_stays_where_it_lies(engine: Engine) -> None:
    x, scale, count = torch.ones(1, 3), torch.full((1, 3), 2.0), torch.tensor([5])
    first, second = engine([x], [scale, count])
    assert first.tolist() == [[2, 2, 2]]
    assert second.tolist() == [[6, 6, 6]]
    again, _ = engine([x.mul(3)], [scale, count])
    assert again.tolist() == [[6, 6, 6]]
    assert first.tolist() == [[2, 2, 2]], "what was given before stays as it was"
    scale.fill_(-1)
    assert engine([x], [scale, count])[0].tolist() == [[-1, -1, -1]]
    assert engine([x], [torch.full((1, 3), 7.0), torch.tensor([1])])[1].tolist() == [[2, 2, 2]]


def test_other_kinds_of_numbers_are_converted(engine: Engine) -> None:
    x = torch.full((1, 3), 0.5, dtype=torch.bfloat16)
    transposed = torch.arange(3.0).view(3, 1).T
    assert engine([x], [transposed, torch.tensor([0])])[0].tolist() == [[0, 0.5, 1]]
    x.fill_(2)
    assert engine([x], [transposed.half(), torch.tensor([0])])[0].tolist() == [[0, 2, 4]]


def test_an_input_may_move_after_it_has_stayed(engine: Engine) -> None:
    x, scale, count = torch.ones(1, 3), torch.full((1, 3), 3.0, dtype=torch.float16), torch.tensor([0])
    engine([x], [scale, count])
    engine([x, torch.zeros(1, 3), count])
    assert engine([x], [scale, count])[0].tolist() == [[3, 3, 3]]
