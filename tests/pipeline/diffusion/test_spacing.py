"""Each spacing against diffusers' own, with every solver of the family, step by step."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_lcm import LCMScheduler

from pipeline import SPACINGS
from pipeline.diffusion.dpm_solver import group_orders
from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import build_table, plan
from pipeline.diffusion.spacing import space
from tests.pipeline.diffusion.test_solver import (
    CLOSE,
    CONFIG,
    is_finite,
    model_output,
    run_table,
    some_noise,
    start_latent,
)
from tests.pipeline.reference import SCHEDULERS, scheduler_of, set_run

SCHEDULE = VariancePreserving.from_config(CONFIG)

# diffusers' option for each spacing, of its multistep scheduler; the singlestep one has no logSNR of that name, but has
# sigmas evenly spaced in logarithm, which is the same.
OPTIONS: dict[str, dict[str, Any]] = {
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"use_karras_sigmas": True},
    "logsnr": {"use_lu_lambdas": True},
}
SINGLESTEP_OPTIONS: dict[str, dict[str, Any]] = {
    "linspace": {},
    "karras": {"use_karras_sigmas": True},
    "logsnr": {"use_exponential_sigmas": True},
}
UNIPC_OPTIONS = {**OPTIONS, "logsnr": {"use_exponential_sigmas": True}}


def options_of(solver: str) -> dict[str, dict[str, Any]]:
    """diffusers' options for the spacings that its scheduler for ``solver`` has."""
    if solver.startswith("unipc"):
        return UNIPC_OPTIONS
    return SINGLESTEP_OPTIONS if solver in ("dpm-2", "dpmpp-2s") else OPTIONS


FAMILY = [(solver, spacing) for solver, spacing in product(SCHEDULERS, SPACINGS) if spacing in options_of(solver)]


def test_the_family_is_compared_in_all_spacings_that_diffusers_has() -> None:
    assert set(OPTIONS) == set(SPACINGS) - {"time-uniform", "time-quadratic", "skipping"}
    assert len(FAMILY) == 7 * len(OPTIONS) + 2 * len(SINGLESTEP_OPTIONS)


@pytest.mark.parametrize(
    ("steps", "prediction_type"), [(1, "sample"), (2, "epsilon"), (3, "v_prediction"), (8, "epsilon"), (17, "sample")]
)
@pytest.mark.parametrize(("solver", "spacing"), FAMILY)
def test_solver_and_spacing_equal_diffusers(solver: str, spacing: str, steps: int, prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    options = options_of(solver)
    theirs = scheduler_of(solver, prediction_type=prediction_type, **options[spacing])
    theirs.set_timesteps(steps)
    levels = space(schedule, spacing, steps, 1.0)
    table = build_table(solver, schedule, levels, lower_order_final=solver.startswith("unipc"))
    # Between two timesteps they round, or cut the fraction off; it is told the model here.
    between = 1 if spacing in ("karras", "logsnr") else 0
    assert torch.allclose(theirs.timesteps.double(), table.timesteps, rtol=0, atol=between)
    ratio = table.sigma / table.alpha
    assert torch.allclose(theirs.sigmas[:-1].double(), ratio, rtol=2e-5)
    set_run(theirs, table.timesteps.tolist(), ratio.tolist())
    x = start_latent()
    ours = run_table(table, x, some_noise)
    # DPM-Solver of noise prediction ends at a little noise with them; ours ends without, as all others do.
    compared = steps - 1 if solver.startswith("dpm-") else steps
    for k, timestep in enumerate(theirs.timesteps[:compared]):
        noise = {"variance_noise": some_noise(k)} if solver.endswith("sde") else {}
        x = theirs.step(model_output(k), timestep, x, **noise).prev_sample
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize(("steps", "falls"), [(5, True), (10, True), (11, False)])
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-3m", "dpm-2m", "dpm-3m"])
def test_the_orders_fall_where_a_short_run_goes_down_to_the_least_noise(solver: str, steps: int, falls: bool) -> None:
    """As in the authors' code, which has nine steps before the last at most; elsewhere the last step is what counts."""
    for spacing in ("logsnr", "karras", "time-uniform", "trailing", "linspace"):
        levels = space(SCHEDULE, spacing, steps, 1.0)
        ends_low = spacing not in ("trailing", "linspace")
        kept, found = (build_table(solver, SCHEDULE, levels, lower_order_final=falling) for falling in (False, True))
        same = all(torch.equal(kept.latent[name], found.latent[name]) for name in kept.latent)
        assert same != (falls and ends_low), spacing
        assert ("previous" in found.latent and bool(found.latent["previous"][steps - 2])) == same, spacing


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_run_goes_down_from_no_more_than_its_strength(spacing: str, steps: int, strength: float) -> None:
    levels = space(SCHEDULE, spacing, steps, strength)
    assert len(levels.timesteps) == steps
    assert bool((levels.sigma.diff() < 0).all())
    assert bool((levels.timesteps.diff() <= 0).all())
    assert torch.allclose(levels.alpha**2 + levels.sigma**2, torch.ones(steps, dtype=torch.float64))
    highest = max(round(1000 * strength), steps + 1)
    assert int(levels.timesteps[0]) < highest
    if spacing not in ("leading", "skipping"):  # which start below the strength by their nature, or their grid's
        assert int(levels.timesteps[0]) >= min(highest, round(1000 * strength)) - 1
    assert int(levels.timesteps[-1]) >= 0


def test_even_means_even() -> None:
    snr = space(SCHEDULE, "logsnr", 9, 1.0)
    steps = (snr.alpha / snr.sigma).log().diff()
    assert torch.allclose(steps, steps[:1].expand_as(steps))
    times = space(SCHEDULE, "linspace", 9, 1.0).timesteps.diff()
    assert times.unique().tolist() == [-111]
    uniform = space(SCHEDULE, "time-uniform", 8, 0.6).timesteps
    assert torch.allclose(uniform.diff(), torch.full((7,), -599 / 7, dtype=torch.float64))
    quadratic = (space(SCHEDULE, "time-quadratic", 8, 0.6).timesteps + 1).sqrt().diff()
    assert torch.allclose(quadratic, quadratic[:1].expand_as(quadratic))
    for spacing in ("logsnr", "karras", "time-uniform", "time-quadratic"):
        assert space(SCHEDULE, spacing, 8, 0.6).timesteps[[0, -1]].tolist() == [599, 0]


@pytest.mark.parametrize("solver", ["dpm-2", "dpmpp-2s", "dpm-3", "dpmpp-3s"])
def test_the_groups_of_a_singlestep_solver_are_of_one_length_in_logsnr(solver: str) -> None:
    """The authors' "fast" grid: eight calls are groups of 3, 3 and 2, or of 2, 2, 2 and 2, and nine 3, 3, 2, 1."""
    order = int(solver[4] if solver.startswith("dpm-") else solver[6])
    for calls in (8, 9):
        table = plan(solver, SCHEDULE, calls + 1, 1.0, "logsnr")
        places = (table.alpha / table.sigma).log()
        starts = [0, *(sum(group_orders(calls, order)[:n]) for n in range(1, len(group_orders(calls, order)) + 1))]
        lengths = places[starts].diff()
        assert torch.allclose(lengths, lengths[:1].expand_as(lengths))
        first = places[: order + 1].diff()
        assert torch.allclose(first, first[:1].expand_as(first))


@pytest.mark.parametrize("solver", ["lcm", "tcd"])
def test_consistency_solvers_keep_to_the_timesteps_of_the_distillation(solver: str) -> None:
    tables = {spacing: plan(solver, SCHEDULE, 4, 1.0, spacing).timesteps.tolist() for spacing in SPACINGS}
    assert tables.pop("skipping") == [999, 759, 519, 279]  # the other grid of theirs
    assert all(timesteps == [999, 759, 499, 259] for timesteps in tables.values())
    for spacing in SPACINGS:
        other = plan("euler", SCHEDULE, 4, 1.0, spacing).timesteps.tolist()
        assert (other == [999, 759, 519, 279]) == (spacing == "skipping")


@pytest.mark.parametrize("strength", [0.3, 0.56, 1.0])
@pytest.mark.parametrize(("grid", "steps"), [(50, 1), (50, 4), (50, 8), (50, 15), (100, 3), (25, 4)])
def test_skipping_takes_every_nth_of_the_grid_as_the_first_lcm(grid: int, steps: int, strength: float) -> None:
    """``origin[::-skip][:n]``, in the words of its scheduler."""
    origin = [1000 // grid * (level + 1) - 1 for level in range(int(grid * strength))]
    expected = origin[:: -(len(origin) // steps)][:steps] if steps <= len(origin) else None
    found = plan("lcm", SCHEDULE, steps, strength, "skipping", grid=grid).timesteps.tolist()
    assert len(found) == steps
    assert expected in (None, found)


@pytest.mark.parametrize("solver", ["lcm", "tcd", "euler", "dpmpp-2m"])
@pytest.mark.parametrize("strength", [0.3, 0.6, 0.75, 1.0])
@pytest.mark.parametrize(("grid", "steps"), [(100, 4), (50, 4), (50, 15), (48, 3), (8, 2), (4, 1)])
def test_the_grid_of_the_model_is_kept_to_as_diffusers_does(
    grid: int, steps: int, strength: float, solver: str
) -> None:
    theirs = LCMScheduler(original_inference_steps=grid)
    theirs.set_timesteps(steps, strength=strength)
    assert plan(solver, SCHEDULE, steps, strength, grid=grid).timesteps.tolist() == theirs.timesteps.tolist()


def test_a_grid_for_every_solver_where_it_has_enough_timesteps() -> None:
    assert plan("lcm", SCHEDULE, 4, 0.75, grid=100).timesteps.tolist() == [749, 569, 379, 189]
    four = [plan("euler", SCHEDULE, steps, 1.0, grid=4).timesteps.tolist() for steps in (1, 2, 4)]
    assert four == [[999], [999, 499], [999, 749, 499, 249]]
    assert plan("euler", SCHEDULE, 2, 0.6, grid=4).timesteps.tolist() == [499, 249]
    # Two of the four lie under the strength: three steps can only be had between them.
    assert plan("euler", SCHEDULE, 3, 0.6, grid=4).timesteps.tolist() == [599, 399, 199]
    # Another spacing is asked for by name, and is what it says.
    for spacing in SPACINGS[1:-1]:
        free, kept = (plan("euler", SCHEDULE, 2, 0.6, spacing, grid=grid).timesteps for grid in (None, 4))
        assert torch.equal(free, kept)
    for grid in (0, 1001):
        with pytest.raises(ValueError, match=f"grid has {grid} timesteps; it must be between 1 and 1000"):
            plan("euler", SCHEDULE, 2, 0.6, grid=grid)


@pytest.mark.parametrize("strength", [0.2, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_pictures_of_noise_alone_begin_at_the_end_of_the_schedule(spacing: str, steps: int, strength: float) -> None:
    """Whatever the strength, and in ``leading`` spacing too, which begins far below it."""
    for solver in ("euler", "lcm"):
        table = plan(solver, SCHEDULE, steps, strength, spacing, from_noise=True)
        assert int(table.timesteps[0]) == 999
        assert float(table.alpha[0]) < 0.07
        assert bool((table.sigma.diff() < 0).all())
    usual = space(SCHEDULE, "leading", steps, 1.0).timesteps
    lifted = space(SCHEDULE, "leading", steps, strength, from_noise=True).timesteps
    if steps > 1:
        assert lifted[-1] == usual[-1]
        assert int(lifted.diff().max() - lifted.diff().min()) <= 1


def test_a_schedule_without_any_signal_at_its_end_stays_finite() -> None:
    schedule = VariancePreserving.from_config(
        {**CONFIG, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    )
    for spacing in SPACINGS:
        table = plan("dpmpp-2m", schedule, 8, 1.0, spacing)
        assert is_finite(table), spacing
