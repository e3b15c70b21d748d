"""The DPM-Solver family against what its authors' own code gives: ``authors.json`` says which version, and how."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import SolverTable, plan
from tests.benchmarks.exact_score import Study, rms
from tests.pipeline.diffusion.test_solver import CONFIG, no_noise, run_table

AUTHORS: dict[str, Any] = json.loads((Path(__file__).parent / "authors.json").read_text(encoding="utf-8"))
SCHEDULE = VariancePreserving.from_config(CONFIG)
FAMILY = [one["solver"] for one in AUTHORS["errors"]]


def result(table: SolverTable) -> torch.Tensor:
    """Where ``table`` goes with the model that the authors' code was run with."""

    def output(k: int, x: torch.Tensor) -> torch.Tensor:
        alpha, sigma = SCHEDULE.alpha_sigma(table.timesteps[k])  # by what it is told, and nothing else
        return sigma * torch.tanh(x) + 0.3 * alpha * torch.sin(2 * x)

    start = torch.tensor(AUTHORS["start"], dtype=torch.float64)
    return run_table(table, start, no_noise, output)[-1]


@pytest.mark.parametrize("spacing", ["logsnr", "time-uniform", "time-quadratic"])
@pytest.mark.parametrize("solver", FAMILY)
def test_the_family_is_its_authors_code_on_their_grids(solver: str, spacing: str) -> None:
    theirs = [one for one in AUTHORS["values"] if (one["solver"], one["spacing"]) == (solver, spacing)]
    assert [one["calls"] for one in theirs] == [4, 5, 6, 7, 8, 10, 11, 12, 15, 20, 25]
    for one in theirs:
        expected = torch.tensor(one["x"], dtype=torch.float64)
        found = result(plan(solver, SCHEDULE, one["calls"], 1.0, spacing))
        assert torch.allclose(found, expected, rtol=0, atol=1e-12), one["calls"]


@cache
def study() -> Study:
    return Study(SCHEDULE)


@pytest.mark.parametrize("solver", FAMILY)
def test_the_stream_is_as_near_to_the_truth_as_they_are(solver: str) -> None:
    """At 5 to 25 calls of a model whose score is exact, through the stream batch."""
    theirs = next(one["rms"] for one in AUTHORS["errors"] if one["solver"] == solver)
    for calls, error in zip(AUTHORS["error_calls"], theirs, strict=True):
        assert study().error(solver, calls, "logsnr") < 1.001 * error, calls


@pytest.mark.parametrize("spacing", ["logsnr", "karras", "time-uniform", "time-quadratic"])
def test_the_model_is_told_the_noise_level_of_the_latent_exactly(spacing: str) -> None:
    """By a fraction of a timestep; told the nearest whole one, it would answer for another level."""
    table = plan("dpm-3", SCHEDULE, 12, 1.0, spacing)
    assert torch.allclose(torch.stack(SCHEDULE.alpha_sigma(table.timesteps)), torch.stack((table.alpha, table.sigma)))
    assert not torch.equal(table.timesteps, table.timesteps.round())


def test_fractions_bring_a_long_run_nearer_to_the_truth() -> None:
    """In a short one the error of the steps is so much larger that it makes no difference."""
    table = plan("dpmpp-3m-taylor", SCHEDULE, 25, 1.0, "logsnr")

    def error(told: torch.Tensor) -> float:
        found = run_table(table, study().start, no_noise, lambda k, x: study().output(x, told[k].expand(len(x))))
        return rms(study().away(found[-1]))

    assert error(table.timesteps) < 0.9 * error(table.timesteps.round())
