"""Each solver table against diffusers' scheduler of that name, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler

from pipeline.diffusion.dpm_solver import group_orders
from pipeline.diffusion.schedule import Levels, VariancePreserving
from pipeline.diffusion.solver import SolverTable, build_table, plan
from pipeline.diffusion.spacing import space
from pipeline.diffusion.steps import COLUMNS
from tests.pipeline.reference import SCHEDULERS, scheduler_of, set_run

CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
CLOSE = 1e-5
SHAPE = (1, 4, 8, 8)


def model_output(k: int) -> torch.Tensor:
    """What a model might answer at step k; nothing depends on what it is."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(100 + k), dtype=torch.float64)


def run_table(
    table: SolverTable,
    start: torch.Tensor,
    noise: Callable[[int], torch.Tensor],
    output: Callable[[int, torch.Tensor], torch.Tensor] = lambda k, x: model_output(k),  # noqa: ARG005
) -> list[torch.Tensor]:
    """The latents after each step of ``table``; ``output`` is the model's at a step and a latent."""
    state = {name: torch.full_like(start, math.nan) for name in COLUMNS} | {"x": start}
    latents = []
    for k in range(table.steps):
        x = state["x"]
        state["data"] = table.skip[k] * x + table.keep[k] * (table.p[k] * x + table.q[k] * output(k, x))
        state["noise"] = noise(k)
        following, anchor = (_row(columns, k, state) for columns in (table.latent, table.anchor))
        state |= {"oldest": state["older"], "older": state["previous"], "previous": state["data"]}
        state["earlier"] = state["anchor"]
        state |= {"x": following, "anchor": anchor}
        latents.append(following)
    return latents


def _row(columns: Mapping[str, torch.Tensor], k: int, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What is not there yet is not a number, and must not be looked at."""
    used = [weights[k] * state[name] for name, weights in columns.items() if weights[k] != 0]
    return sum(used, torch.zeros_like(state["x"]))


def levels_at(schedule: VariancePreserving, timesteps: list[int]) -> Levels:
    """The noise levels that ``schedule`` has at ``timesteps``."""
    told = torch.tensor(timesteps, dtype=torch.float64)
    return Levels(told, *schedule.alpha_sigma(told))


def is_finite(table: SolverTable) -> bool:
    """Whether every coefficient is a number."""
    columns = [table.p, table.q, table.skip, table.keep, *table.latent.values(), *table.anchor.values()]
    return all(bool(column.isfinite().all()) for column in columns)


def no_noise(k: int) -> torch.Tensor:  # noqa: ARG001 - one signature
    """For solvers that must not look at it."""
    return torch.zeros(SHAPE, dtype=torch.float64)


def some_noise(k: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(k), dtype=torch.float64)


def start_latent() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_ddim_equals_diffusers(steps: int, prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    levels = space(schedule, "trailing", steps, 1.0)
    timesteps = levels.timesteps
    options: dict[str, Any] = {**CONFIG, "prediction_type": prediction_type, "clip_sample": False}
    theirs = DDIMScheduler(**options, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == timesteps.tolist()
    x = start_latent()
    ours = run_table(build_table("ddim", schedule, levels), x, no_noise)
    for k, timestep in enumerate(theirs.timesteps.tolist()):
        x = theirs.step(model_output(k), timestep, x).prev_sample  # type: ignore[union-attr]
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 7, 8, 10, 16])
@pytest.mark.parametrize("solver", SCHEDULERS)
def test_solvers_of_higher_order_equal_diffusers(solver: str, steps: int, prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    levels = space(schedule, "trailing", steps, 1.0)
    timesteps = levels.timesteps
    theirs = scheduler_of(solver, prediction_type=prediction_type)
    set_run(theirs, timesteps.tolist(), (levels.sigma / levels.alpha).tolist())
    x = start_latent()
    ours = run_table(build_table(solver, schedule, levels), x, some_noise)
    # DPM-Solver of noise prediction ends at a little noise with them; ours ends without, as all others do.
    compared = steps - 1 if solver.startswith("dpm-") else steps
    for k, timestep in enumerate(theirs.timesteps[:compared]):
        noise = {"variance_noise": some_noise(k)} if solver.endswith("sde") else {}
        x = theirs.step(model_output(k), timestep, x, **noise).prev_sample
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("steps", range(1, 12))
def test_singlestep_groups_of_two_equal_diffusers(steps: int) -> None:
    theirs = DPMSolverSinglestepScheduler(solver_order=2, lower_order_final=True).get_order_list(steps)
    places = [place for order in [*group_orders(steps - 1, 2), 1] for place in range(1, order + 1)]
    assert places == theirs


def test_singlestep_groups_of_three_end_in_lower_orders_as_the_papers_do() -> None:
    """DPM-Solver-fast: appendix D of the first paper."""
    assert [group_orders(calls, 3) for calls in range(9)] == [
        [],
        [1],
        [2],
        [2, 1],
        [3, 1],
        [3, 2],
        [3, 2, 1],
        [3, 3, 1],
        [3, 3, 2],
    ]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_euler_equals_diffusers(steps: int, prediction_type: str) -> None:
    """Theirs runs at unit data variance, ours at unit total variance: ours = alpha theirs."""
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    levels = space(schedule, "trailing", steps, 1.0)
    theirs = EulerDiscreteScheduler(**CONFIG, prediction_type=prediction_type, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    table = build_table("euler", schedule, levels)
    x = start_latent()
    ours = run_table(table, x, no_noise)
    x = x / table.alpha[0]
    for k, timestep in enumerate(theirs.timesteps):
        x = theirs.step(model_output(k), timestep, x).prev_sample  # type: ignore[union-attr]
        following = table.alpha[k + 1] if k + 1 < steps else 1.0
        assert torch.allclose(ours[k], x * following, atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (2, 1.0), (4, 1.0), (4, 0.8), (3, 0.47)])
def test_lcm_equals_diffusers(steps: int, strength: float, prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    levels = space(schedule, "trailing", steps, strength, grid=50)
    timesteps = levels.timesteps
    theirs = LCMScheduler(**CONFIG, prediction_type=prediction_type, clip_sample=False)
    theirs.set_timesteps(steps, strength=strength)
    assert theirs.timesteps.tolist() == timesteps.tolist()
    x = start_latent()

    ours = run_table(build_table("lcm", schedule, levels), x, some_noise)
    for k, timestep in enumerate(theirs.timesteps):
        generator = torch.Generator().manual_seed(k)
        x = theirs.step(model_output(k), timestep, x, generator=generator).prev_sample  # type: ignore[union-attr]
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.55, 1.0])
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (2, 1.0), (4, 1.0), (4, 0.8), (8, 0.47)])
def test_tcd_equals_diffusers(steps: int, strength: float, gamma: float, prediction_type: str) -> None:
    schedule = VariancePreserving.from_config({**CONFIG, "prediction_type": prediction_type})
    theirs = TCDScheduler(**CONFIG, prediction_type=prediction_type)
    theirs.set_timesteps(steps, strength=strength)
    table = plan("tcd", schedule, steps, strength, gamma=gamma)
    assert theirs.timesteps.tolist() == table.timesteps.tolist()
    assert table.renoises == (gamma > 0)
    x = start_latent()
    ours = run_table(table, x, some_noise)
    for k, timestep in enumerate(theirs.timesteps):
        generator = torch.Generator().manual_seed(k)
        step = theirs.step(model_output(k), int(timestep), x, eta=gamma, generator=generator)
        x = step.prev_sample  # type: ignore[union-attr]
        assert torch.allclose(ours[k], x.double(), atol=CLOSE, rtol=CLOSE), k


@pytest.mark.parametrize("schedule_kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_noise_schedules_equal_diffusers(schedule_kind: str) -> None:
    config = {**CONFIG, "beta_schedule": schedule_kind}
    theirs = DDIMScheduler(**config)
    assert torch.allclose(VariancePreserving.from_config(config).alpha_bar, theirs.alphas_cumprod.double(), atol=1e-6)


def test_zero_terminal_snr_equals_diffusers_and_stays_finite() -> None:
    config = {**CONFIG, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    schedule = VariancePreserving.from_config(config)
    assert torch.allclose(schedule.alpha_bar, DDIMScheduler(**config).alphas_cumprod.double(), atol=1e-5)
    table = plan("dpmpp-2m", schedule, 4, 1.0)
    assert is_finite(table)


@pytest.mark.parametrize("strength", [0.05, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
def test_timesteps_start_at_the_strength_and_decrease(steps: int, strength: float) -> None:
    timesteps = space(VariancePreserving.from_config(CONFIG), "trailing", steps, strength).timesteps
    assert len(timesteps) == steps
    assert timesteps[0] == round(1000 * strength) - 1
    assert timesteps[-1] >= 0
    assert bool((timesteps.diff() < 0).all())


def test_misuse_is_refused_in_words() -> None:
    schedule = VariancePreserving.from_config(CONFIG)
    with pytest.raises(ValueError, match="the solver is 'heun'; it must be one of lcm"):
        build_table("heun", schedule, levels_at(schedule, [5, 3]))
    for timesteps in ([3, 5], [4, 4], []):
        with pytest.raises(ValueError, match="must decrease"):
            build_table("ddim", schedule, levels_at(schedule, timesteps))
    with pytest.raises(ValueError, match="the spacing is 'square'; it must be one of trailing"):
        plan("ddim", schedule, 4, 1.0, "square")
    with pytest.raises(ValueError, match="prediction type is 'flow'"):
        VariancePreserving.from_config({**CONFIG, "prediction_type": "flow"})
    with pytest.raises(ValueError, match="schedule is 'sigmoid'"):
        VariancePreserving.from_config({**CONFIG, "beta_schedule": "sigmoid"})
