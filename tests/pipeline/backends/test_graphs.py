"""What a captured function is given: inputs that stay are copied where they are others, and nothing besides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import Stream, StreamConfig, load_model
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend, _Runner
from pipeline.conditioning.conditions import Conditions
from pipeline.device import uploaded
from tests.checkpoints import write_model
from tests.tiny_model import tiny_model


def counted(copies: list[str], name: str) -> torch.Tensor:
    """A tensor that notes, by its name, that something is copied into it."""
    tensor = torch.zeros(1, 2)

    def copy_(source: torch.Tensor, **_: bool) -> torch.Tensor:
        copies.append(name)
        return torch.Tensor.copy_(tensor, source)

    tensor.copy_ = copy_  # type: ignore[method-assign]
    return tensor


def runner_of(copies: list[str]) -> _Runner:
    def function(rows: torch.Tensor, keys: torch.Tensor, sizes: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": rows + keys + sizes}

    staying = {name: counted(copies, name) for name in ("keys", "sizes")}
    return _Runner(function, {"rows": torch.zeros(1, 2)}, staying)


def test_only_what_is_another_tensor_is_copied() -> None:
    copies: list[str] = []
    runner, rows = runner_of(copies), {"rows": torch.ones(1, 2)}
    keys, sizes = torch.full((1, 2), 2.0), torch.full((1, 2), 3.0)
    first = Conditions({"keys": keys, "sizes": sizes})
    assert runner(rows, first)["output"].tolist() == [[6, 6]]
    assert sorted(copies) == ["keys", "sizes"]
    copies.clear()
    runner(rows, first)
    runner(rows, Conditions({"keys": keys, "sizes": sizes}))
    assert copies == []
    assert runner(rows, Conditions({"keys": keys, "sizes": sizes + 1}))["output"].tolist() == [[7, 7]]
    assert copies == ["sizes"]


def test_what_is_given_stays_as_it_is() -> None:
    runner = runner_of([])
    conditions = Conditions({"keys": torch.zeros(1, 2), "sizes": torch.zeros(1, 2)})
    one = runner({"rows": torch.ones(1, 2)}, conditions)["output"]
    runner({"rows": torch.zeros(1, 2)}, conditions)
    assert one.tolist() == [[1, 1]]


@pytest.mark.parametrize("guidance", ["none", "full"])
def test_sdxl_is_told_by_the_very_same_tensors_at_every_tick(guidance: str, tmp_path: Path) -> None:
    """Sizes that were made anew at each call once had every input of the network copied at each call."""
    model = load_model(str(write_model(tmp_path / "sdxl", "sdxl")), device="cpu", dtype="float32")
    backend = GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    given = []
    run = backend.run
    backend.run = lambda network, moving, staying: given.append(staying) or run(network, moving, staying)  # type: ignore[method-assign]
    config = StreamConfig(prompt="a", steps=2, guidance=guidance, guidance_scale=2.0, solver="ddim")
    stream = Stream(model, config, backend)
    for _ in range(4):
        stream(torch.rand(3, 32, 32))
    ticks = [conditions for conditions in given if conditions][-3:]
    assert ticks[0] is ticks[1] is ticks[2]
    assert {"tokens", "pooled", "time_ids"} <= ticks[0].keys()
    backend.close()


def test_a_picture_that_is_shown_again_is_not_changed_by_whoever_writes_to_it() -> None:
    """A caller in inference mode may write to what it was given."""
    config = StreamConfig(prompt="a", similarity_filter=True, similarity_threshold=0.5)
    stream, frame = Stream(tiny_model(), config), torch.rand(3, 32, 32)
    with torch.inference_mode():
        first = stream(frame).image
        kept = first.clone()
        first.zero_()
        again = stream(frame)
        assert again.skipped
        assert torch.equal(again.image, kept)
        again.image.zero_()
        assert torch.equal(stream(frame).image, kept)


def test_uploading_to_where_it_is_already_copies_nothing() -> None:
    tensor = torch.zeros(3)
    assert uploaded(tensor, torch.device("cpu")) is tensor
