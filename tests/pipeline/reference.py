"""Sequential denoising written straight from the papers, sharing no code with the stream batch.

Guidance is in noise space, as StreamDiffusion defines it; solvers are those of diffusers, or two lines here; the UNet
is called without the attention cache, one row at a time.
"""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from pipeline import Model, StreamConfig
from pipeline.diffusion.schedule import VariancePreserving
from tests.tiny_model import unet_of

# How the orders fall at the end of a run is told them step by step (``Reference._order``): DPM-Solver's authors, whom
# we follow, have it otherwise than diffusers.
MULTISTEP = {"lower_order_final": False}
SINGLESTEP = {"lower_order_final": True}
NOISE_PREDICTION = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}

TAYLOR = "dpmpp-3m-taylor"
THIRD = ("dpm-3", "dpmpp-3s")  # diffusers has another formula in the middle of a group than the paper

# diffusers' name for each solver that looks at more than one step.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpmpp-2m": (DPMSolverMultistepScheduler, {"solver_order": 2, **MULTISTEP}),
    "dpmpp-3m": (DPMSolverMultistepScheduler, {"solver_order": 3, **MULTISTEP}),
    "dpmpp-2m-sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp-2s": (DPMSolverSinglestepScheduler, {"solver_order": 2, "final_sigmas_type": "zero", **SINGLESTEP}),
    "dpm-2": (DPMSolverSinglestepScheduler, {"solver_order": 2, **NOISE_PREDICTION, **SINGLESTEP}),
    "dpm-2m": (DPMSolverMultistepScheduler, {"solver_order": 2, **NOISE_PREDICTION, **MULTISTEP}),
    "dpm-3m": (DPMSolverMultistepScheduler, {"solver_order": 3, **NOISE_PREDICTION, **MULTISTEP}),
    "unipc-2": (UniPCMultistepScheduler, {"solver_order": 2}),
    "unipc-3": (UniPCMultistepScheduler, {"solver_order": 3}),
}


def scheduler_of(solver: str, **options: Any) -> Any:
    """diffusers' scheduler for ``solver`` on the tests' noise schedule."""
    kind, known = SCHEDULERS[solver]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`algorithm_types", FutureWarning)
        return kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **known, **options)


def set_run(scheduler: Any, timesteps: Sequence[float], ratios: Sequence[float]) -> None:
    """Have one of diffusers' schedulers go through these timesteps, at these ``sigma / alpha``.

    Its own ratios are single precision, which alone adds up to more than the tests' tolerance over many steps.
    """
    scheduler.set_timesteps(len(timesteps))
    scheduler.timesteps = torch.tensor(timesteps)
    scheduler.sigmas = torch.tensor([*ratios, float(scheduler.sigmas[-1])], dtype=torch.float64)
    scheduler.set_begin_index(0)  # near the end two steps may be told the same timestep


class Reference:
    """Denoises one frame after the other under one configuration."""

    def __init__(self, model: Model, config: StreamConfig) -> None:
        assert isinstance(model.schedule, VariancePreserving)
        self.model, self.config, self.schedule = model, config, model.schedule
        self.unet = copy.deepcopy(unet_of(model))
        self.unet.set_attn_processor(AttnProcessor2_0())  # no cache, whatever stream is using the model
        self.timesteps, self.levels = self._run()
        self.prompt = model.prompts(config.prompt)
        self.negative = model.prompts(config.negative_prompt)

    @torch.inference_mode()
    def __call__(self, frame: torch.Tensor) -> torch.Tensor:
        """(3, H, W) in 0..1 to the (3, H, W) picture."""
        latent = self.model.autoencoder.encode(frame.unsqueeze(0))
        alpha, sigma = self._levels(0)
        return self._denoised(latent, alpha * latent + sigma * self._noise(latent)[0])

    @torch.inference_mode()
    def of_words(self, start: torch.Tensor) -> torch.Tensor:
        """The (3, H, W) picture that is made of the noise ``start`` (C, h, w) and the prompt alone."""
        return self._denoised(torch.zeros_like(start[None]), start[None])

    def _noise(self, latent: torch.Tensor) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.config.seed)
        return [torch.randn(latent.shape[1:], generator=generator) for _ in range(self.config.step_count + 1)]

    def _denoised(self, latent: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        noise, star = self._noise(latent), latent
        self.states: list[tuple[torch.Tensor, torch.Tensor]] = []  # latent and data prediction of each step so far
        if self.config.solver in (*SCHEDULERS, TAYLOR):
            self.scheduler = scheduler_of(self.config.solver.removesuffix("-taylor"))
            set_run(self.scheduler, self.timesteps, [sigma / alpha for alpha, sigma in self.levels])
        for k in range(self.config.step_count):
            alpha, sigma = self._levels(k)
            epsilon = self._epsilon(x, latent, k, self.prompt)
            if self.config.guidance == "onetime-negative" and k == 0:
                star = (x - sigma * self._epsilon(x, latent, k, self.negative)) / alpha
            unguided = (x - sigma * epsilon) / alpha
            epsilon = self._guide(epsilon, x, latent, star, k)
            data = (x - sigma * epsilon) / alpha
            if self.config.guidance != "none" and self.config.guidance_scale != 1:
                share = self.config.guidance_rescale
                data = share * data * unguided.std() / data.std() + (1 - share) * data
            x = self._step(x, data, k, noise)
        return self.model.autoencoder.decode(x)[0]

    def _run(self) -> tuple[list[float], list[tuple[float, float]]]:
        """The timesteps, and (alpha, sigma) at each."""
        config, schedule = self.config, self.schedule
        strength = 1.0 if config.text_to_image and not self.model.sees_input else config.strength
        alpha_bar, steps, own = schedule.alpha_bar.numpy(), config.steps, config.solver in ("lcm", "tcd")
        if config.timesteps:
            return self._at([int(one) for one in config.timesteps.split(",")])
        if own or config.spacing == "trailing":
            theirs, grid = LCMScheduler(), self.model.grid or (50 if own else 0)
            if steps <= int(grid * strength):
                theirs.set_timesteps(steps, original_inference_steps=grid, strength=strength)
                timesteps = theirs.timesteps.tolist()
            else:
                first = max(round(strength * 1000), steps)
                timesteps = [round(first - k * (first / steps)) - 1 for k in range(steps)]
            return self._at(timesteps)
        assert config.spacing == "karras"
        known = (1 / alpha_bar - 1) ** 0.5
        first, last = known[round(strength * 1000) - 1] ** (1 / 7), known[0] ** (1 / 7)
        ratios = np.linspace(first, last, config.steps) ** 7
        log_alpha = -np.log1p(ratios**2) / 2
        timesteps = np.interp(-log_alpha, -np.log(alpha_bar) / 2, np.arange(1000)).tolist()
        return timesteps, [(float(1 / np.hypot(1, r)), float(r / np.hypot(1, r))) for r in ratios]

    def _at(self, timesteps: Sequence[int]) -> tuple[list[float], list[tuple[float, float]]]:
        alpha_bar = self.schedule.alpha_bar.numpy()
        levels = [(float(alpha_bar[t] ** 0.5), float((1 - alpha_bar[t]) ** 0.5)) for t in timesteps]
        return [float(t) for t in timesteps], levels

    def _levels(self, k: int) -> tuple[float, float]:
        return self.levels[k] if k < len(self.levels) else (1.0, 0.0)

    def _epsilon(self, x: torch.Tensor, latent: torch.Tensor, k: int, prompt: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([x, latent], dim=1) if self.model.sees_input else x
        told = self.timesteps[0 if self.schedule.tells_start else k]
        output = self.unet(rows, told, prompt, **self.shown(x, told, prompt)).sample
        alpha, sigma = self._levels(k)
        if self.schedule.prediction_type == "epsilon":
            return output
        if self.schedule.prediction_type == "v_prediction":
            return alpha * output + sigma * x
        return (x - alpha * output) / sigma

    def shown(self, x: torch.Tensor, timestep: float, prompt: torch.Tensor) -> dict[str, Any]:
        """What the UNet is given besides; for a subclass."""
        return {}

    def _guide(
        self, epsilon: torch.Tensor, x: torch.Tensor, latent: torch.Tensor, star: torch.Tensor, k: int
    ) -> torch.Tensor:
        g, delta = self.config.guidance_scale, self.config.delta
        if self.config.guidance == "none":
            return epsilon
        if self.config.guidance == "full":
            negative = self._epsilon(x, latent, k, self.negative)
            return negative + g * (epsilon - negative)
        alpha, sigma = self._levels(k)
        virtual = (x - alpha * star) / sigma
        return delta * virtual + g * (epsilon - delta * virtual)

    def _step(self, x: torch.Tensor, data: torch.Tensor, k: int, noise: list[torch.Tensor]) -> torch.Tensor:
        alpha, sigma = self._levels(k)
        next_alpha, next_sigma = self._levels(k + 1)
        if self.config.solver == "lcm":
            scaled, spread = self.timesteps[k] * 10.0, 0.25
            data = data * scaled / (scaled**2 + spread) ** 0.5 + x * spread / (scaled**2 + spread)
            return next_alpha * data + next_sigma * noise[k + 1]
        if self.config.solver == "tcd":
            return self._tcd_step((x - alpha * data) / sigma, data, k, noise)
        self.states.append((x, data))
        if k + 1 == self.config.step_count:
            return data
        if self.config.solver in THIRD:
            return self._in_group(k)
        if self.config.solver in (*SCHEDULERS, TAYLOR):
            order = self._order(k)
            if order is not None:
                self.scheduler.lower_order_nums = min(self.scheduler.lower_order_nums, order - 1)
            extra = {"variance_noise": noise[k + 1][None]} if self.config.solver.endswith("sde") else {}
            epsilon = (x - alpha * data) / sigma
            following = self.scheduler.step(epsilon, self.timesteps[k], x, **extra).prev_sample
            if self.config.solver == TAYLOR and order == 2 and k == 1:
                return self._of_second_order(0, 1, of_noise=False)
            if self.config.solver == TAYLOR and order == 3:
                return self._integrated(k, k, (k, k - 1, k - 2), of_noise=False)
            return following
        return next_alpha * data + next_sigma * (x - alpha * data) / sigma

    def _tcd_step(self, epsilon: torch.Tensor, data: torch.Tensor, k: int, noise: list[torch.Tensor]) -> torch.Tensor:
        """Down beyond the next timestep without noise, and up again to it with some that is new."""
        alpha_bar, last = self.schedule.alpha_bar, k + 1 == self.config.step_count
        after = 0 if last else int(self.timesteps[k + 1])
        below = int((1 - self.config.tcd_gamma) * after)
        down = alpha_bar[below] ** 0.5 * data + (1 - alpha_bar[below]) ** 0.5 * epsilon
        share = alpha_bar[after] / alpha_bar[below]
        return down if last else share**0.5 * down + (1 - share) ** 0.5 * noise[k + 1]

    def _order(self, k: int) -> int | None:
        """Of a multistep solver of the DPM-Solver family at step k; None for others."""
        solver, before_last = self.config.solver, self.config.step_count - 1
        if not re.fullmatch(r"dpm(pp)?-[23]m(-taylor)?", solver):
            return None
        ends_low = self.timesteps[-1] < 0.5
        falling = before_last - k if before_last < 10 and ends_low else 3
        return max(1, min(int(re.sub(r"\D", "", solver)), k + 1, falling))

    def _in_group(self, k: int) -> torch.Tensor:
        """Of third order within a group: through the prediction of the group's start, and the latest (algorithm 2)."""
        calls, of_noise = self.config.step_count - 1, self.config.solver == "dpm-3"
        orders = [3] * (calls // 3) + [calls % 3] if calls % 3 else [3] * (calls // 3 - 1) + [2, 1]
        starts = [start for start, order in zip(accumulate([0, *orders]), orders, strict=False) for _ in range(order)]
        start, order = starts[k], starts.count(starts[k])
        if order == 2 and k > start:
            return self._of_second_order(start, k, of_noise)
        return self._integrated(start, k, (start,) if k == start else (start, k), of_noise)

    def _of_second_order(self, start: int, k: int, of_noise: bool) -> torch.Tensor:
        """From step ``start`` on by the mean of two predictions that the papers take (their algorithms 1)."""
        begun, here, after = (self._lambda(n) for n in (start, k, k + 1))
        h = after - begun
        share = h / (here - begun) / 2
        mean = (1 - share) * self._prediction(start, of_noise) + share * self._prediction(k, of_noise)
        (old_alpha, old_sigma), (alpha, sigma) = self._levels(start), self._levels(k + 1)
        if of_noise:
            return alpha / old_alpha * self.states[start][0] - sigma * math.expm1(h) * mean
        return sigma / old_sigma * self.states[start][0] - alpha * math.expm1(-h) * mean

    def _integrated(self, start: int, k: int, through: Sequence[int], of_noise: bool) -> torch.Tensor:
        """From step ``start`` to step k + 1 by the integral over the polynomial through these steps' predictions.

        It is of ``e^lambda x0`` in ``x / sigma``, or of ``e^-lambda eps`` in ``x / alpha``.
        """
        known = [self._lambda(n) for n in through]
        here, there = self._lambda(start), self._lambda(k + 1)
        places, weights = np.polynomial.legendre.leggauss(16)
        places = (here + there) / 2 + (there - here) / 2 * places
        level = 0 if of_noise else 1
        total = self.states[start][0] / self._levels(start)[level]
        for number, n in enumerate(through):
            others = [one for place, one in enumerate(known) if place != number]
            polynomial = np.prod([(places - one) / (known[number] - one) for one in others], axis=0)
            kernel = -np.exp(-places) if of_noise else np.exp(places)
            share = float((weights * kernel * polynomial).sum() * (there - here) / 2)
            total = total + share * self._prediction(n, of_noise)
        return self._levels(k + 1)[level] * total

    def _prediction(self, k: int, of_noise: bool) -> torch.Tensor:
        """The data prediction of step k, or the noise prediction."""
        (x, data), (alpha, sigma) = self.states[k], self._levels(k)
        return (x - alpha * data) / sigma if of_noise else data

    def _lambda(self, k: int) -> float:
        alpha, sigma = self._levels(k)
        return math.log(alpha / sigma)
