"""Tables that were right once stay as they are: ``tables.json`` holds values in full.

Most are of the first edition; those of the DPM-Solver family, and the timesteps in karras and logsnr spacing, are of
the one that came to equal the authors' code (``test_authors.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import plan
from tests.pipeline.diffusion.test_solver import CONFIG

KEPT: dict[str, Any] = json.loads((Path(__file__).parent / "tables.json").read_text(encoding="utf-8"))
SCHEDULE = VariancePreserving.from_config(CONFIG)


def same(found: torch.Tensor, kept: Sequence[float]) -> bool:
    """To the last bits, in which the exponential functions of two machines may differ."""
    return torch.allclose(found, torch.tensor(kept, dtype=torch.float64), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kept", KEPT["rows"], ids=lambda kept: f"{kept['solver']}-{kept['spacing']}-{kept['steps']}")
def test_rows_of_each_solver(kept: dict[str, Any]) -> None:
    table = plan(kept["solver"], SCHEDULE, kept["steps"], kept["strength"], kept["spacing"])
    assert table.latent.keys() == kept["latent"].keys()
    for column, weights in kept["latent"].items():
        assert same(table.latent[column], weights), column


@pytest.mark.parametrize("kept", KEPT["runs"])
def test_where_the_steps_lie(kept: dict[str, Any]) -> None:
    table = plan(kept["solver"], SCHEDULE, kept["steps"], kept["strength"], kept["spacing"])
    assert table.timesteps.dtype == torch.float64
    assert table.timesteps.tolist() == kept["timesteps"]
    for name in kept.keys() & {"alpha", "sigma"}:
        assert same(getattr(table, name), kept[name]), name


@pytest.mark.parametrize("prediction_type", KEPT["predictions"])
def test_what_an_output_means(prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    table = plan("lcm", schedule, 3, 0.8)
    for name, weights in KEPT["predictions"][prediction_type].items():
        assert same(getattr(table, name), weights), name
