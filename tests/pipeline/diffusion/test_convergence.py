"""The paper's claim where the truth is known: solvers converge at their orders, and DPM-Solver++ is ahead of PNDM."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import plan
from pipeline.diffusion.stream_batch import StreamBatch
from tests.benchmarks.exact_score import STABLE_DIFFUSION, Study, fine_schedule, picture_patches, rms, slope
from tests.benchmarks.log_plot import Line, log_plot
from tests.benchmarks.solvers import LIMIT, ORDERS, PATCH_POINTS, PNDM_STEPS, measured_orders


@cache
def orders() -> dict[str, float]:
    return measured_orders(Study(fine_schedule(), points=32))


@cache
def on_stable_diffusion() -> Study:
    return Study(VariancePreserving.from_config(STABLE_DIFFUSION), points=64)


@pytest.mark.parametrize("solver", ORDERS)
def test_order_of_convergence(solver: str) -> None:
    assert abs(orders()[solver] - ORDERS[solver]) < 0.3, orders()


def test_a_start_of_second_order_and_the_whole_second_derivative_make_3m_one_of_third_order() -> None:
    """On Stable Diffusion's schedule as well, and however many the calls."""
    study = on_stable_diffusion()
    limit = study.run(*LIMIT, "logsnr")
    counts = (97, 193, 385)
    for solver, order in (("dpmpp-3m", 2), ("dpmpp-3m-taylor", 3)):
        errors = [rms(study.run(solver, count, "logsnr") - limit) for count in counts]
        assert slope(counts, errors) == pytest.approx(order, abs=0.1)


@cache
def on_patches() -> tuple[Study, torch.Tensor]:
    """Picture patches, and how far each is from the truth after 50 steps of PNDM."""
    study = Study(VariancePreserving.from_config(STABLE_DIFFUSION), PATCH_POINTS, picture_patches())
    return study, study.away(study.run_pndm(PNDM_STEPS))


@pytest.mark.parametrize(
    ("solver", "calls"), [("dpmpp-2m", 12), ("dpmpp-2m", 20), ("dpmpp-3m", 12), ("dpmpp-3m", 15), ("unipc-2", 12)]
)
def test_few_calls_of_dpm_solver_pp_are_better_than_fifty_steps_of_pndm_on_picture_patches(
    solver: str, calls: int
) -> None:
    """Nearly every picture is nearer to the truth; all in all they are, where few go to another patch."""
    study, beside = on_patches()
    away = study.away(study.run(solver, calls, "logsnr"))
    assert float((away < beside).double().mean()) > 0.85
    assert float(away.median()) < 0.65 * float(beside.median())
    if (solver, calls) not in (("dpmpp-2m", 12), ("unipc-2", 12)):
        assert rms(away) < rms(beside)


def test_on_a_mixture_in_the_plane_it_takes_them_more() -> None:
    """PNDM is very good there: third order comes nearer with 20 calls, second order not with 25."""
    study = on_stable_diffusion()
    theirs = study.pndm_error(PNDM_STEPS)
    assert study.error("dpmpp-3m", 20, "logsnr") < theirs < study.error("dpmpp-2m", 25, "logsnr")


def test_even_time_down_to_the_least_noise_is_better_than_a_long_last_step() -> None:
    """The paper's time-uniform spacing, beside linspace, which jumps to no noise from far above."""
    study, _ = on_patches()
    uniform, linspace = (study.away(study.run("dpmpp-2m", 20, one)).median() for one in ("time-uniform", "linspace"))
    assert uniform < 0.6 * linspace


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
