"""The paper's claim where the truth is known: solvers converge at their orders, and DPM-Solver++ is ahead of PNDM."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import plan
from pipeline.diffusion.stream_batch import StreamBatch
from tests.benchmarks.exact_score import STABLE_DIFFUSION, Study, fine_schedule, rms
from tests.benchmarks.log_plot import Line, log_plot
from tests.benchmarks.solvers import ORDERS, measured_orders


@cache
def orders() -> dict[str, float]:
    return measured_orders(Study(fine_schedule(), points=32))


@cache
def on_stable_diffusion() -> Study:
    return Study(VariancePreserving.from_config(STABLE_DIFFUSION), points=64)


@pytest.mark.parametrize("solver", ORDERS)
def test_order_of_convergence(solver: str) -> None:
    assert abs(orders()[solver] - ORDERS[solver]) < 0.3, orders()


def test_the_whole_second_derivative_is_what_makes_3m_one_of_third_order() -> None:
    assert orders()["dpmpp-3m-taylor"] > orders()["dpmpp-3m"] + 0.6


@pytest.mark.parametrize(
    ("solver", "calls"),
    [("dpmpp-3m", 15), ("dpmpp-3m-taylor", 15), ("dpmpp-2m", 20), ("dpmpp-2m", 25), ("dpmpp-3m", 25)],
)
def test_few_calls_of_dpm_solver_pp_are_better_than_fifty_steps_of_pndm(solver: str, calls: int) -> None:
    study = on_stable_diffusion()
    assert study.error(solver, calls, "logsnr") < study.pndm_error(50)


def test_the_last_step_is_what_even_timesteps_are_bad_at() -> None:
    """They leave it long, and it is of first order for every solver."""
    study = on_stable_diffusion()
    even = study.error("dpmpp-3m-taylor", 25, "trailing")
    assert even > 3 * study.error("dpmpp-3m-taylor", 25, "logsnr")


def test_the_study_takes_as_many_calls_as_it_says_and_a_stream_batch_agrees() -> None:
    study = on_stable_diffusion()
    study.calls = 0
    alone = study.error("dpmpp-2m", 8, "logsnr")
    assert study.calls == 8
    table = plan("dpmpp-2m", study.schedule, 8, 1.0, "logsnr")
    batch = StreamBatch(study.denoise, 64, (2, 1, 1), sees_input=False)
    batch.prepare(table, torch.zeros(9, 2, 1, 1))
    batch.set_guidance("none")
    start = study.start.float().view(-1, 2, 1, 1)
    finished = start
    for _ in range(8):
        finished = batch.tick(torch.zeros_like(start), start)
    assert rms(study.away(finished.flatten(1))) == pytest.approx(alone, rel=1e-3)


def test_a_chart_has_every_line() -> None:
    drawn = log_plot("a < b", "x", "y", [Line("one", (5, 50), (0.1, 0.001)), Line("two", (5, 50), (0.2, 0.02), True)])
    assert drawn.count("<polyline") == 2
    assert drawn.count("stroke-dasharray") == 2
    assert "a &lt; b" in drawn
