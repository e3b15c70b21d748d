"""Sequential denoising written straight from the papers, sharing no code with the stream batch.

Guidance is in noise space, as StreamDiffusion defines it; solvers are those of diffusers, or two lines here; the UNet
is called without the attention cache, one row at a time.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
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

SINGLESTEP = {"lower_order_final": True}
NOISE_PREDICTION = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}

TAYLOR = "dpmpp-3m-taylor"

# diffusers' name for each solver that looks at more than one step.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpmpp-2m": (DPMSolverMultistepScheduler, {"solver_order": 2}),
    "dpmpp-3m": (DPMSolverMultistepScheduler, {"solver_order": 3}),
    "dpmpp-2m-sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp-2s": (DPMSolverSinglestepScheduler, {"solver_order": 2, "final_sigmas_type": "zero", **SINGLESTEP}),
    "dpm-2": (DPMSolverSinglestepScheduler, {"solver_order": 2, **NOISE_PREDICTION, **SINGLESTEP}),
    "dpm-3": (DPMSolverSinglestepScheduler, {"solver_order": 3, **NOISE_PREDICTION, **SINGLESTEP}),
    "unipc-2": (UniPCMultistepScheduler, {"solver_order": 2}),
    "unipc-3": (UniPCMultistepScheduler, {"solver_order": 3}),
}


def scheduler_of(solver: str, **options: Any) -> Any:
    """diffusers' scheduler for ``solver`` on the tests' noise schedule."""
    kind, known = SCHEDULERS[solver]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`algorithm_types=dpmsolver` is deprecated", FutureWarning)
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
        return [torch.randn(latent.shape[1:], generator=generator) for _ in range(self.config.steps + 1)]

    def _denoised(self, latent: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        noise, star = self._noise(latent), latent
        self.datas: list[torch.Tensor] = []
        if self.config.solver in (*SCHEDULERS, TAYLOR):
            self.scheduler = scheduler_of(self.config.solver.removesuffix("-taylor"))
            set_run(self.scheduler, self.timesteps, [sigma / alpha for alpha, sigma in self.levels])
        for k in range(self.config.steps):
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

    def _run(self) -> tuple[list[int], list[tuple[float, float]]]:
        """The timesteps, and (alpha, sigma) at each."""
        config, schedule = self.config, self.schedule
        strength = 1.0 if config.text_to_image and not self.model.sees_input else config.strength
        alpha_bar, steps, own = schedule.alpha_bar.numpy(), config.steps, config.solver in ("lcm", "tcd")
        if own or config.spacing == "trailing":
            theirs, grid = LCMScheduler(), self.model.grid or (50 if own else 0)
            if steps <= int(grid * strength):
                theirs.set_timesteps(steps, original_inference_steps=grid, strength=strength)
                timesteps = theirs.timesteps.tolist()
            else:
                first = max(round(strength * 1000), steps)
                timesteps = [round(first - k * (first / steps)) - 1 for k in range(steps)]
            return timesteps, [(float(alpha_bar[t] ** 0.5), float((1 - alpha_bar[t]) ** 0.5)) for t in timesteps]
        assert config.spacing == "karras"
        known = (1 / alpha_bar - 1) ** 0.5
        first, last = known[round(strength * 1000) - 1] ** (1 / 7), known[0] ** (1 / 7)
        ratios = np.linspace(first, last, config.steps) ** 7
        timesteps = np.interp(np.log(ratios), np.log(known), np.arange(1000)).round().astype(int).tolist()
        return timesteps, [(float(1 / np.hypot(1, r)), float(r / np.hypot(1, r))) for r in ratios]

    def _levels(self, k: int) -> tuple[float, float]:
        return self.levels[k] if k < len(self.levels) else (1.0, 0.0)

    def _epsilon(self, x: torch.Tensor, latent: torch.Tensor, k: int, prompt: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([x, latent], dim=1) if self.model.sees_input else x
        told = self.timesteps[0 if self.schedule.tells_start else k]
        output = self.unet(rows, told, prompt).sample
        alpha, sigma = self._levels(k)
        if self.schedule.prediction_type == "epsilon":
            return output
        if self.schedule.prediction_type == "v_prediction":
            return alpha * output + sigma * x
        return (x - alpha * output) / sigma

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
        if k + 1 == self.config.steps:
            return data
        if self.config.solver in (*SCHEDULERS, TAYLOR):
            self.datas.append(data)
            extra = {"variance_noise": noise[k + 1][None]} if self.config.solver.endswith("sde") else {}
            epsilon = (x - alpha * data) / sigma
            following = self.scheduler.step(epsilon, self.timesteps[k], x, **extra).prev_sample
            third_order = 2 <= k < self.config.steps - 2 or 2 <= k < self.config.steps - 1 >= 14
            return self._integrated(x, k) if self.config.solver == TAYLOR and third_order else following
        return next_alpha * data + next_sigma * (x - alpha * data) / sigma

    def _tcd_step(self, epsilon: torch.Tensor, data: torch.Tensor, k: int, noise: list[torch.Tensor]) -> torch.Tensor:
        """Down beyond the next timestep without noise, and up again to it with some that is new."""
        alpha_bar, last = self.schedule.alpha_bar, k + 1 == self.config.steps
        after = 0 if last else self.timesteps[k + 1]
        below = int((1 - self.config.tcd_gamma) * after)
        down = alpha_bar[below] ** 0.5 * data + (1 - alpha_bar[below]) ** 0.5 * epsilon
        share = alpha_bar[after] / alpha_bar[below]
        return down if last else share**0.5 * down + (1 - share) ** 0.5 * noise[k + 1]

    def _integrated(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """The third-order step: x/sigma plus the integral of e^lambda x0, a parabola through three predictions."""
        (alpha, sigma), (next_alpha, next_sigma) = self._levels(k), self._levels(k + 1)
        known = [math.log(a / s) for a, s in (self._levels(k - back) for back in range(3))]
        here, there = math.log(alpha / sigma), math.log(next_alpha / next_sigma)
        places, weights = np.polynomial.legendre.leggauss(16)
        places = (here + there) / 2 + (there - here) / 2 * places
        total = x / sigma
        for back in range(3):
            others = [one for place, one in enumerate(known) if place != back]
            parabola = np.prod([(places - one) / (known[back] - one) for one in others], axis=0)
            share = float((weights * np.exp(places) * parabola).sum() * (there - here) / 2)
            total = total + share * self.datas[k - back]
        return next_sigma * total
