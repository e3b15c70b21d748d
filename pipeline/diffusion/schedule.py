"""The noise schedule that a model was trained on: how much signal and noise there is at each place of the way.

A *place* is a number in 0..1: 0 is the data, 1 the most noise that the model knows. ``VariancePreserving`` is the
schedule of Stable Diffusion and its kin, ``FlowMatching`` that of SD3, FLUX and SANA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

# What a model's output may mean: the noise, a mixture of noise and data, the data, or the velocity from data to noise.
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")
_VARIANCE_PRESERVING = PREDICTION_TYPES[:3]

# Models are trained on 1000; more than this would only fill the memory.
MOST_TIMESTEPS = 100_000

# So far from a whole timestep is one that is meant to be whole.
_ROUNDING = 1e-8

# A schedule with zero terminal signal-to-noise ratio would divide by zero; this keeps its last step finite in float32.
_LEAST_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, slots=True)
class Levels:
    """Some noise levels ``x = alpha x_0 + sigma noise``.

    Attributes:
        timesteps: (T,) float64, what the model is told; between two that it counts, a number with a fraction.
        alpha, sigma: (T,) float64.
    """

    timesteps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor

    def __getitem__(self, steps: slice) -> Levels:
        """Some of them."""
        return Levels(self.timesteps[steps], self.alpha[steps], self.sigma[steps])


class Schedule(Protocol):
    """What the planner of a run asks of a model's noise schedule."""

    @property
    def prediction_type(self) -> str:
        """What the model's output means: one of ``PREDICTION_TYPES``."""
        ...

    @property
    def tells_start(self) -> bool:
        """Whether at every step of a run the model is told the timestep at which the run began.

        Such a model sees by itself how much noise is left (arXiv 2502.13129), and takes from the timestep how strongly
        to change the picture, which must stay as it is from step to step.
        """
        ...

    @property
    def continuous(self) -> bool:
        """Whether the model was also trained on the noise levels between the N that ``__len__`` counts.

        One that was not may be told them all the same: it reads its timestep off sines, which go on in between.
        """
        ...

    def __len__(self) -> int:
        """N, the number of noise levels that the model was trained on; a strength is rounded to one of them."""
        ...

    def levels(self, places: torch.Tensor) -> Levels:
        """The noise levels at ``places`` ((T,) float64 in 0..1), exactly."""
        ...

    def ratios(self, places: torch.Tensor) -> torch.Tensor:
        """(T,) float64 ``sigma / alpha`` at ``places``; infinite where there is no signal."""
        ...

    def at_ratios(self, ratios: torch.Tensor) -> Levels:
        """The noise levels at which ``sigma / alpha`` is ``ratios`` ((T,) float64), exactly."""
        ...

    @property
    def timesteps(self) -> range:
        """The whole timesteps that the model may be told, of which each has some noise."""
        ...

    def told(self, timesteps: Sequence[int]) -> Levels:
        """The noise levels at ``timesteps``, each of which is one of ``self.timesteps``."""
        ...

    def below(self, levels: Levels, share: float) -> Levels:
        """The noise levels at ``share`` (0..1) of the timesteps of ``levels``; at 0 the least noise there is."""
        ...

    def data_prediction(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(P, Q)`` with ``x0 = P x + Q output``, for the kind of output that the model gives."""
        ...

    def consistency_boundary(self, levels: Levels) -> tuple[torch.Tensor, torch.Tensor]:
        """``(skip, keep)``, each (T,) float64: a consistency model answers ``skip x + keep x0``."""
        ...


def read_schedule(config: Mapping[str, object]) -> Schedule:
    """Read a diffusers ``scheduler_config.json``; ``tells_start`` in it is ours.

    Raises:
        ValueError: the schedule or the prediction type is of an unknown kind.
    """
    flows = config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas")
    if flows or str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FlowMatching.from_config(config)
    return VariancePreserving.from_config(config)


@dataclass(frozen=True, slots=True)
class VariancePreserving:
    """``x_t = alpha_t x_0 + sigma_t noise`` with ``alpha_t^2 + sigma_t^2 = 1`` at t = 0..N-1; place ``(t + 1) / N``.

    Between two timesteps log alpha is linear in t, as the authors of DPM-Solver have it for such models.

    Attributes:
        alpha_bar: (N,) float64, ``alpha_t^2`` for t = 0..N-1, decreasing.
        prediction_type: what the model's output means: ``epsilon``, ``v_prediction`` or ``sample``.
        timestep_scaling: of the consistency model's boundary condition (LCM, arXiv 2310.04378, eq. 7).
        sigma_data: of the same.
        tells_start: see ``Schedule``.
    """

    alpha_bar: torch.Tensor
    prediction_type: str = "epsilon"
    timestep_scaling: float = 10.0
    sigma_data: float = 0.5
    tells_start: bool = False

    def __post_init__(self) -> None:
        if self.prediction_type not in _VARIANCE_PRESERVING:
            known = ", ".join(_VARIANCE_PRESERVING)
            raise ValueError(f"the model's prediction type is {self.prediction_type!r}; known are {known}")

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> VariancePreserving:
        """Read a diffusers ``scheduler_config.json``; ``tells_start`` in it is ours.

        Raises:
            ValueError: the schedule or the prediction type is of an unknown kind, or a number is out of its range.
        """
        betas = _betas(config)
        if betas.ndim != 1 or not 1 <= len(betas) <= MOST_TIMESTEPS or not bool(((betas >= 0) & (betas < 1)).all()):
            raise ValueError(
                f"its betas must be 1 to {MOST_TIMESTEPS} numbers from 0 to less than 1; get the model again"
            )
        scaling = _number(config, "timestep_scaling", 10.0)
        if not math.isfinite(scaling):
            raise ValueError(f"its timestep_scaling is {scaling}; it must be a number")
        alpha_bar = torch.cumprod(1.0 - betas, dim=0)
        if config.get("rescale_betas_zero_snr"):
            alpha_bar = _rescale_to_zero_snr(alpha_bar)
        return cls(
            alpha_bar=alpha_bar.clamp_min(_LEAST_ALPHA_BAR),
            prediction_type=str(config.get("prediction_type", "epsilon")),
            timestep_scaling=scaling,
            tells_start=bool(config.get("tells_start", False)),
        )

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @property
    def continuous(self) -> bool:
        """It was trained on whole timesteps only."""
        return False

    def levels(self, places: torch.Tensor) -> Levels:
        """Those between two timesteps as well."""
        timesteps = _whole_if_nearly((places * len(self) - 1).clamp(0, len(self) - 1))
        return Levels(timesteps, *self.alpha_sigma(timesteps))

    def alpha_sigma(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(alpha, sigma)`` in float64 at ``timesteps`` (any shape, 0..N-1)."""
        below = timesteps.floor().long()
        low, high = (self.alpha_bar[t].log() for t in (below, (below + 1).clamp_max(len(self) - 1)))
        log_alpha_bar = low.lerp(high, timesteps.double() - below)
        return (log_alpha_bar / 2).exp(), (-log_alpha_bar.expm1()).sqrt()

    def ratios(self, places: torch.Tensor) -> torch.Tensor:
        """(T,) ``sigma / alpha``."""
        levels = self.levels(places)
        return levels.sigma / levels.alpha

    def at_ratios(self, ratios: torch.Tensor) -> Levels:
        """Between two timesteps as well; beyond the first and the last the model is told these."""
        noise, known = torch.log1p(ratios**2), -self.alpha_bar.log()  # minus the logarithm of alpha^2, rising with t
        above = torch.searchsorted(known, noise).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        share = ((noise - low) / (high - low)).nan_to_num(0).clamp(0, 1)  # no number where two levels are the same
        timesteps = _whole_if_nearly((above - 1).clamp_min(0) + share)
        alpha = (1 + ratios**2).rsqrt()
        return Levels(timesteps, alpha, ratios * alpha)

    @property
    def timesteps(self) -> range:
        """From 0 to N - 1."""
        return range(len(self))

    def told(self, timesteps: Sequence[int]) -> Levels:
        """As in training."""
        told = torch.tensor(timesteps, dtype=torch.float64)
        return Levels(told, *self.alpha_sigma(told))

    def below(self, levels: Levels, share: float) -> Levels:
        """Timesteps that fall between two are rounded down (TCD, as diffusers has it)."""
        timesteps = (levels.timesteps * share).floor()
        return Levels(timesteps, *self.alpha_sigma(timesteps))

    def data_prediction(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each kind of output (arXiv 2202.00512, section 4)."""
        if self.prediction_type == "epsilon":
            return 1 / alpha, -sigma / alpha
        if self.prediction_type == "v_prediction":
            return alpha, -sigma
        return torch.zeros_like(alpha), torch.ones_like(alpha)

    def consistency_boundary(self, levels: Levels) -> tuple[torch.Tensor, torch.Tensor]:
        """What makes the model's map the identity at t = 0 (arXiv 2310.04378, eq. 7)."""
        scaled = levels.timesteps * self.timestep_scaling
        variance = scaled**2 + self.sigma_data**2
        return self.sigma_data**2 / variance, scaled / variance.sqrt()


@dataclass(frozen=True, slots=True)
class FlowMatching:
    """``x = (1 - t) x_0 + t noise``, a straight line from data to noise (arXiv 2210.02747, 2209.03003).

    The model is told ``1000 t`` (N in general) as a float and answers with the velocity ``noise - x_0``. At a place p
    the time is ``t = s p / (1 + (s - 1) p)`` (arXiv 2403.03206, eq. 23): the larger the picture, the larger a shift s
    it takes to destroy its signal evenly. At place 1 there is no signal at all.

    Attributes:
        shift: s. Of a model whose shift depends on the picture's size, that of the size in use
            (``dataclasses.replace``).
        steps: N.
        tells_start: see ``Schedule``.

    Raises:
        ValueError: ``shift`` is not positive.
    """

    shift: float = 1.0
    steps: int = 1000
    tells_start: bool = False

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise ValueError(f"the shift of the model's noise schedule is {self.shift}; it must be more than 0")

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> FlowMatching:
        """Read a diffusers ``scheduler_config.json`` of flow matching."""
        return cls(
            shift=_number(config, "shift", _number(config, "flow_shift", 1.0)),
            steps=int(_number(config, "num_train_timesteps", 1000)),
            tells_start=bool(config.get("tells_start", False)),
        )

    def __len__(self) -> int:
        return self.steps

    @property
    def prediction_type(self) -> str:
        """The velocity."""
        return "flow_prediction"

    @property
    def continuous(self) -> bool:
        """It knows every time."""
        return True

    def levels(self, places: torch.Tensor) -> Levels:
        """Those at ``places`` exactly, as the model knows every time in between."""
        return self._at(self.shift * places / (1 + (self.shift - 1) * places))

    def ratios(self, places: torch.Tensor) -> torch.Tensor:
        """(T,) ``t / (1 - t)``."""
        levels = self.levels(places)
        return levels.sigma / levels.alpha

    def at_ratios(self, ratios: torch.Tensor) -> Levels:
        """Exactly those, and the model is told so."""
        return self._at(ratios / (1 + ratios))

    @property
    def timesteps(self) -> range:
        """From 1 to N, where there is no signal at all."""
        return range(1, self.steps + 1)

    def told(self, timesteps: Sequence[int]) -> Levels:
        """In thousandths of the time (N-ths in general)."""
        return self._at(torch.tensor(timesteps, dtype=torch.float64) / self.steps)

    def below(self, levels: Levels, share: float) -> Levels:
        """At that share of the time, in which the line is straight."""
        return self._at(levels.sigma * share)

    def data_prediction(self, alpha: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``x0 = x - t velocity``."""
        return torch.ones_like(alpha), -sigma

    def consistency_boundary(self, levels: Levels) -> tuple[torch.Tensor, torch.Tensor]:
        """None: the map is the identity at t = 0 as it is, since the velocity is multiplied by t."""
        return torch.zeros_like(levels.alpha), torch.ones_like(levels.alpha)

    def _at(self, times: torch.Tensor) -> Levels:
        return Levels(times * self.steps, 1 - times, times)


def _whole_if_nearly(timesteps: torch.Tensor) -> torch.Tensor:
    """``timesteps``, without what rounding has added to whole ones."""
    whole = timesteps.round()
    return torch.where((timesteps - whole).abs() < _ROUNDING, whole, timesteps)


def _number(config: Mapping[str, object], name: str, default: float) -> float:
    """An entry of a configuration. Raises ``ValueError`` or ``TypeError`` where it is no number."""
    value = config.get(name, default)
    if not isinstance(value, int | float | str):
        raise TypeError(f"its {name} is {str(value)[:40]}; it must be a number")
    return float(value)


def _betas(config: Mapping[str, object]) -> torch.Tensor:
    """(N,) float64 betas of the kinds that diffusers' schedulers know."""
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or not 1 <= count <= MOST_TIMESTEPS:
        raise ValueError(
            f"its num_train_timesteps is {str(count)[:40]}; it must be a whole number from 1 to {MOST_TIMESTEPS}"
        )
    start, end = _number(config, "beta_start", 0.0001), _number(config, "beta_end", 0.02)
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
