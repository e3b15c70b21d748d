"""The noise schedule that a model was trained on, and the timesteps of a run of few steps through it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")

# Models are trained on 1000; more than this would only fill the memory.
MOST_TIMESTEPS = 100_000

# A schedule with zero terminal signal-to-noise ratio would divide by zero; this keeps its last step finite in float32.
_LEAST_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """A variance-preserving schedule ``x_t = alpha_t x_0 + sigma_t noise`` with ``alpha_t^2 + sigma_t^2 = 1``.

    Attributes:
        alpha_bar: (N,) float64, ``alpha_t^2`` for t = 0..N-1, decreasing.
        prediction_type: what the model's output means: ``epsilon``, ``v_prediction`` or ``sample``.
        timestep_scaling: of the consistency model's boundary condition (LCM, arXiv 2310.04378, eq. 7).
        sigma_data: of the same.
        tells_start: at every step of a run the model is told the timestep at which the run began, and sees by itself
            how much noise is left (arXiv 2502.13129). For models that take from the timestep how strongly to change
            the picture, which must stay as it is from step to step.
    """

    alpha_bar: torch.Tensor
    prediction_type: str = "epsilon"
    timestep_scaling: float = 10.0
    sigma_data: float = 0.5
    tells_start: bool = False

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"the model's prediction type is {self.prediction_type!r}; known are {', '.join(PREDICTION_TYPES)}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read a diffusers ``scheduler_config.json``; ``tells_start`` in it is ours.

        Raises:
            ValueError: the schedule or the prediction type is of an unknown kind, or a number is out of its range.
        """
        betas = _betas(config)
        if betas.ndim != 1 or not 1 <= len(betas) <= MOST_TIMESTEPS or not bool(((betas >= 0) & (betas < 1)).all()):
            raise ValueError(
                f"its betas must be 1 to {MOST_TIMESTEPS} numbers from 0 to less than 1; get the model again"
            )
        scaling = float(config.get("timestep_scaling", 10.0))
        if not math.isfinite(scaling):
            raise ValueError(f"its timestep_scaling is {scaling}; it must be a number")
        alpha_bar = torch.cumprod(1.0 - betas, dim=0)
        if config.get("rescale_betas_zero_snr"):
            alpha_bar = _rescale_to_zero_snr(alpha_bar)
        return cls(
            alpha_bar=alpha_bar.clamp_min(_LEAST_ALPHA_BAR),
            prediction_type=config.get("prediction_type", "epsilon"),
            timestep_scaling=scaling,
            tells_start=bool(config.get("tells_start", False)),
        )

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(alpha, sigma)`` in float64 at integer ``timesteps`` (any shape, 0..N-1)."""
        alpha_bar = self.alpha_bar[timesteps]
        return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()

    def timesteps(self, steps: int, strength: float, grid: int | None = None) -> torch.Tensor:
        """(T,) int64, decreasing: ``steps`` timesteps from ``strength`` (0..1] of the schedule down, evenly spaced.

        The spacing is "trailing" (arXiv 2305.08891, table 2): the first step is exactly at the strength asked for,
        which matters when there is one step only. A strength that leaves fewer timesteps than ``steps`` is raised.

        ``grid`` is the number of timesteps that a consistency model was distilled on; where they are enough for
        ``steps``, the nearest of them are taken, as diffusers' ``LCMScheduler`` does.
        """
        if grid is not None and steps <= (reached := int(grid * strength)):
            chosen = torch.linspace(0, reached, steps + 1, dtype=torch.float64)[:-1].floor().long()
            return (reached - chosen) * (len(self) // grid) - 1
        start = min(max(round(strength * len(self)), steps), len(self))
        ladder = start - torch.arange(steps, dtype=torch.float64) * (start / steps)
        return ladder.round().long() - 1


def _betas(config: Mapping[str, Any]) -> torch.Tensor:
    """(N,) float64 betas of the kinds that diffusers' schedulers know."""
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or not 1 <= count <= MOST_TIMESTEPS:
        raise ValueError(
            f"its num_train_timesteps is {str(count)[:40]}; it must be a whole number from 1 to {MOST_TIMESTEPS}"
        )
    start, end = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    if kind == "linear":
        return torch.linspace(start, end, count, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(math.sqrt(start), math.sqrt(end), count, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        edges = torch.arange(count + 1, dtype=torch.float64) / count
        alpha_bar = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(0.999)
    raise ValueError(f"the model's noise schedule is {kind!r}; known are linear, scaled_linear and squaredcos_cap_v2")


def _rescale_to_zero_snr(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Stretch ``sqrt(alpha_bar)`` so that its last value is zero (arXiv 2305.08891, algorithm 1)."""
    root = alpha_bar.sqrt()
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
