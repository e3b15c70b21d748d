"""Flow matching against diffusers' schedulers for it, step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from pipeline import SOLVERS, SPACINGS
from pipeline.diffusion.guidance import Guidance, data_weights
from pipeline.diffusion.schedule import FlowMatching, Levels, VariancePreserving, read_schedule
from pipeline.diffusion.solver import build_table, plan
from tests.pipeline.diffusion.test_solver import (
    CONFIG,
    is_finite,
    model_output,
    no_noise,
    run_table,
    some_noise,
    start_latent,
)

# Theirs are single precision.
CLOSE = 2e-5


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_euler_equals_diffusers(steps: int, shift: float) -> None:
    """In trailing spacing, as FLUX is run: from no signal at all, and evenly."""
    theirs: Any = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    table = plan("euler", FlowMatching(shift), steps, 1.0)
    assert torch.allclose(table.timesteps.float(), theirs.timesteps, rtol=1e-6)
    assert torch.allclose(table.sigma, theirs.sigmas[:-1].double(), rtol=1e-6)
    assert table.alpha[0] == 0
    x = start_latent()
    ours = run_table(table, x, no_noise)
    for k, timestep in enumerate(theirs.timesteps):
        x = theirs.step(model_output(k), timestep, x).prev_sample
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [2, 4, 8, 16])
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-3m", "dpmpp-2m-sde", "unipc-2", "unipc-3"])
def test_higher_orders_equal_diffusers(solver: str, steps: int, shift: float) -> None:
    flow: Any = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": "flow_prediction"}
    # How the orders fall at the end is another matter: DPM-Solver's authors see it otherwise than diffusers.
    falling = solver.startswith("unipc")
    if falling:
        theirs: Any = UniPCMultistepScheduler(**flow, solver_order=int(solver[-1]))
    else:
        kind = "sde-dpmsolver++" if solver.endswith("sde") else "dpmsolver++"
        theirs = DPMSolverMultistepScheduler(
            **flow, solver_order=int(solver[6]), algorithm_type=kind, lower_order_final=False
        )
    theirs.set_timesteps(steps)
    sigma = theirs.sigmas[:-1].double()
    theirs.sigmas = theirs.sigmas.double()
    schedule = FlowMatching(shift)
    # They start a little below no signal at all, which their formulas cannot do.
    table = build_table(solver, schedule, Levels(1000 * sigma, 1 - sigma, sigma), lower_order_final=falling)
    ours = run_table(table, start_latent(), some_noise)
    x = start_latent()
    for k, timestep in enumerate(theirs.timesteps):
        noise = {"variance_noise": some_noise(k)} if solver.endswith("sde") else {}
        x = theirs.step(model_output(k), timestep, x, **noise).prev_sample
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_lcm_equals_diffusers(steps: int) -> None:
    theirs: Any = FlowMatchLCMScheduler()
    theirs.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    table = plan("lcm", FlowMatching(), steps, 1.0, grid=steps)
    x = start_latent()
    ours = run_table(table, x, some_noise)
    for k, timestep in enumerate(theirs.timesteps):
        generator = torch.Generator().manual_seed(k)
        x = theirs.step(model_output(k), timestep, x, generator=generator).prev_sample.double()
        assert torch.allclose(ours[k], x, atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_comes_to_the_data_of_a_model_that_knows_it(solver: str, spacing: str) -> None:
    """From no signal at all, with a model whose velocity is that of one picture and one noise."""
    picture, noise = start_latent(), some_noise(1)
    for steps in (1, 2, 3, 5, 8, 17):
        table = plan(solver, FlowMatching(3.0), steps, 1.0, spacing)
        assert is_finite(table)
        assert bool((table.sigma.diff() < 0).all())
        if solver in ("lcm", "tcd", "dpmpp-2m-sde"):
            latents = run_table(table, noise, some_noise, lambda k, x, t=table: (x - picture) / t.sigma[k])
        else:
            start = table.alpha[0] * picture + table.sigma[0] * noise
            latents = run_table(table, start, no_noise, lambda k, x: noise - picture)  # noqa: ARG005
            for latent, alpha, sigma in zip(latents[:-1], table.alpha[1:], table.sigma[1:], strict=True):
                assert torch.allclose(latent, alpha * picture + sigma * noise, atol=1e-9), steps
        assert torch.allclose(latents[-1], picture, atol=1e-9), steps


@pytest.mark.parametrize("solver", SOLVERS)
def test_after_no_signal_at_all_nothing_looks_back_at_it(solver: str) -> None:
    """What comes after the first step is as in a run that begins there."""
    table = plan(solver, FlowMatching(), 8, 1.0)
    later = build_table(solver, FlowMatching(), Levels(table.timesteps[1:], table.alpha[1:], table.sigma[1:]))
    # A correction of first order is the mean of two data predictions, and needs no lambda.
    from_step = 2 if solver.startswith("unipc") else 1
    for column, weights in table.latent.items():
        expected = later.latent.get(column, torch.zeros(7, dtype=torch.float64))
        assert torch.allclose(weights[from_step:], expected[from_step - 1 :], atol=1e-12), column


def test_the_shift_moves_time_towards_the_noise() -> None:
    places = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    assert FlowMatching().levels(places).sigma.tolist() == places.tolist()
    shifted = FlowMatching(3.0).levels(places)
    assert torch.allclose(shifted.sigma, torch.tensor([0.0, 0.5, 0.75, 1.0], dtype=torch.float64))
    assert shifted.timesteps.tolist() == [0.0, 500.0, 750.0, 1000.0]
    assert torch.allclose(shifted.alpha, 1 - shifted.sigma)
    again = FlowMatching(3.0).at_ratios(FlowMatching(3.0).ratios(places[1:3]))
    assert torch.allclose(again.sigma, shifted.sigma[1:3])


def test_a_strength_is_kept_exactly() -> None:
    table = plan("euler", FlowMatching(), 3, 0.6)
    assert table.sigma.tolist() == pytest.approx([0.6, 0.4, 0.2])
    assert plan("euler", FlowMatching(), 2, 0.6, grid=4).timesteps.tolist() == [500, 250]


def test_a_virtual_residual_has_no_delta_where_there_is_no_signal() -> None:
    """x0 = g x0_c + (1 - g) x0* there, and everything is a number."""
    table = plan("euler", FlowMatching(), 2, 1.0)
    weights = data_weights(table, Guidance("self-negative", 1.5, 0.8))
    assert weights.latent.tolist() == pytest.approx([1.5, 1.5 - 0.5 * 0.2 / 0.5])
    assert weights.star.tolist() == pytest.approx([-0.5, -0.4])


def test_a_configuration_is_read_as_what_it_is() -> None:
    flow = read_schedule({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 500})
    assert flow == FlowMatching(3.0, 500)
    assert len(flow) == 500
    solver = {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "flow_shift": 2.0}
    assert read_schedule({**solver, "prediction_type": "flow_prediction"}) == FlowMatching(2.0)
    assert isinstance(read_schedule(CONFIG), VariancePreserving)
    assert read_schedule({"prediction_type": "flow_prediction"}).prediction_type == "flow_prediction"
    for shift in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="shift of the model's noise schedule is"):
            FlowMatching(shift)
