"""A diffusion model whose score is known: a mixture of Gaussians, its true paths, and runs of the product along them.

The Gaussians are wide ones in the plane, or narrow ones around patches of real pictures.

For data drawn from a mixture of Gaussians, the best possible data prediction at any noise level is a formula. The
probability flow of that model (arXiv 2011.13456, section 4.3) can then be followed as exactly as wished, and how far a
solver of few steps ends from it is the solver's error and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_pndm import PNDMScheduler

from pipeline.diffusion.guidance import RowLayout
from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import plan
from pipeline.diffusion.stream_batch import StreamBatch

# Stable Diffusion's noise schedule.
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

_CLIP = Path(__file__).parents[2] / "assets" / "sample" / "clip.mp4"
# Of 1 from grey to white: the noise of a good camera, so that the patches stay the pictures that they are.
_PATCH_SPREAD = 0.02

# sigma / alpha at which the true path ends; from there on to no noise the data prediction is exact to 1e-9.
_END = 1e-5
_FINE_STEPS = 800


def fine_schedule(steps: int = 2**20) -> VariancePreserving:
    """DPM-Solver's own (arXiv 2206.00927, appendix D): beta from 0.1 to 20, so finely cut that no rounding is seen."""
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    return VariancePreserving(torch.exp(-(0.1 * time + (20 - 0.1) * time**2 / 2)))


@dataclass(frozen=True, slots=True)
class Mixture:
    """K round Gaussians in D dimensions: ``means`` (K, D), ``spreads`` (K,) and ``weights`` (K,), all float64."""

    means: torch.Tensor
    spreads: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def random(cls, seed: int = 0, count: int = 6, dimensions: int = 2) -> Mixture:
        """Some that overlap and some that do not, of about unit size in all."""
        draw = torch.Generator().manual_seed(seed)
        means = 0.7 * torch.randn(count, dimensions, generator=draw, dtype=torch.float64)
        spreads = 0.3 + 0.2 * torch.rand(count, generator=draw, dtype=torch.float64)
        weights = 0.3 + torch.rand(count, generator=draw, dtype=torch.float64)
        return cls(means, spreads, weights / weights.sum())

    def sample(self, count: int, seed: int = 1) -> torch.Tensor:
        """(count, D) float64."""
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=draw)
        noise = torch.randn(count, self.means.shape[1], generator=draw, dtype=torch.float64)
        return self.means[chosen] + self.spreads[chosen, None] * noise

    def expected_data(self, noisy: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """``E[x0 | x0 + ratio n = noisy]``: noisy (F, D), ratio (F, 1) or (), to (F, D)."""
        variance = self.spreads**2 + ratio**2
        away = noisy.square().sum(-1, keepdim=True) - 2 * noisy @ self.means.T + self.means.square().sum(-1)
        dimensions = self.means.shape[1]
        share = (self.weights.log() - away / (2 * variance) - dimensions / 2 * variance.log()).softmax(-1)
        kept = share * self.spreads**2 / variance  # of the noisy latent; the rest is the mean
        return (share - kept) @ self.means + kept.sum(-1, keepdim=True) * noisy


def picture_patches(count: int = 96, side: int = 8, spread: float = _PATCH_SPREAD) -> Mixture:
    """An empirical distribution whose score is known: ``count`` patches of the sample clip, each a narrow Gaussian.

    The patches are RGB in -1..1, from all over the clip.
    """
    from app.sources.video import VideoSource

    draw, patches = torch.Generator().manual_seed(0), []
    source = VideoSource(_CLIP)
    source.open()
    try:
        while len(patches) < count and (frame := source.read()) is not None:
            picture = torch.from_numpy(frame.pixels.copy()).to(torch.float64) / 127.5 - 1  # (H, W, 3)
            top, left = (int(torch.randint(edge - side + 1, (), generator=draw)) for edge in picture.shape[:2])
            patches.append(picture[top : top + side, left : left + side].flatten())
    finally:
        source.close()
    assert len(patches) == count, f"the clip has {len(patches)} frames"
    spreads = torch.full((count,), spread, dtype=torch.float64)
    return Mixture(torch.stack(patches), spreads, torch.full_like(spreads, 1 / count))


class Study:
    """The same F starting points for every solver, and where their true paths end.

    Args:
        schedule: the model's noise schedule.
        points: F.
        mixture: the data; by default a random one in the plane.
    """

    def __init__(self, schedule: VariancePreserving, points: int = 128, mixture: Mixture | None = None) -> None:
        self.schedule = schedule
        self.mixture = mixture or Mixture.random()
        self._data = self.mixture.sample(points)
        self._noise = torch.randn(self._data.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        self.calls = 0  # of the model, each on all points

    @cached_property
    def start(self) -> torch.Tensor:
        """(F, D) at the schedule's last timestep."""
        alpha, sigma = self.schedule.alpha_sigma(torch.tensor(len(self.schedule) - 1))
        return alpha * self._data + sigma * self._noise

    @cached_property
    def truth(self) -> torch.Tensor:
        """(F, D) where the true paths from ``start`` end, by 800 steps of Runge and Kutta's fourth order.

        With ``y = x / alpha`` and ``k = sigma / alpha``, the path is ``dy / d log k = y - E[x0 | y, k]``.
        """
        alpha, sigma = self.schedule.alpha_sigma(torch.tensor(len(self.schedule) - 1))
        levels = torch.linspace(float((sigma / alpha).log()), math.log(_END), _FINE_STEPS + 1, dtype=torch.float64)
        h = levels[1] - levels[0]

        def slope(y: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            return y - self.mixture.expected_data(y, level.exp())

        y = self.start / alpha
        for level in levels[:-1]:
            first = slope(y, level)
            second = slope(y + h / 2 * first, level + h / 2)
            third = slope(y + h / 2 * second, level + h / 2)
            fourth = slope(y + h * third, level + h)
            y = y + h / 6 * (first + 2 * second + 2 * third + fourth)
        return self.mixture.expected_data(y, levels[-1].exp())

    def error(self, solver: str, calls: int, spacing: str) -> float:
        """How far a component is from the truth, RMS, at the end of ``run``."""
        return rms(self.away(self.run(solver, calls, spacing)))

    def run(self, solver: str, calls: int, spacing: str) -> torch.Tensor:
        """(F, D) where the product's own table goes, run by its own stream batch."""
        table = plan(solver, self.schedule, calls, 1.0, spacing)
        dimensions = self.start.shape[1]
        batch = StreamBatch(self.denoise, len(self.start), (dimensions, 1, 1), sees_input=False)
        batch.prepare(table, torch.zeros(calls + 1, dimensions, 1, 1, dtype=torch.float64))
        start = self.start.view(-1, dimensions, 1, 1)
        return batch.prime(torch.zeros_like(start), start).flatten(1)

    def pndm_error(self, steps: int) -> float:
        """How far a component is from the truth, RMS, at the end of ``run_pndm``."""
        return rms(self.away(self.run_pndm(steps)))

    def run_pndm(self, steps: int) -> torch.Tensor:
        """(F, D) where diffusers' PNDM goes as Stable Diffusion has it (its ``scheduler_config.json``).

        It calls the model once more than it has steps.
        """
        theirs = PNDMScheduler(
            **STABLE_DIFFUSION,
            timestep_spacing="leading",
            steps_offset=1,
            set_alpha_to_one=False,
            skip_prk_steps=True,
        )
        theirs.alphas_cumprod, theirs.final_alpha_cumprod = self.schedule.alpha_bar, self.schedule.alpha_bar[0]
        theirs.set_timesteps(steps)
        timesteps = theirs.timesteps
        assert timesteps is not None
        assert len(timesteps) == steps + 1
        x = self.start
        for timestep in timesteps:
            output = self.output(x, timestep.expand(len(x)))
            x = theirs.step(output, int(timestep), x).prev_sample  # type: ignore[union-attr]
        return x

    def away(self, found: torch.Tensor) -> torch.Tensor:
        """(F,) how far a component of each point is from the truth, RMS."""
        return (found - self.truth).square().mean(1).sqrt()

    def output(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The best noise prediction that there is, for latents (F, D) at timesteps (F,)."""
        self.calls += 1
        alpha, sigma = (level[:, None] for level in self.schedule.alpha_sigma(timesteps))
        return (x - alpha * self.mixture.expected_data(x / alpha, sigma / alpha)) / sigma

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        layout: RowLayout,
        carried: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """The model as the stream batch sees it; like every other, it is told the timestep and nothing else."""
        return self.output(rows.flatten(1).double(), timesteps).to(rows.dtype).view_as(rows)


def rms(values: torch.Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def slope(counts: Sequence[int], errors: Sequence[float]) -> float:
    """The order of convergence: minus the slope of the least-squares line through log error over log count."""
    x = torch.tensor([math.log(count) for count in counts], dtype=torch.float64)
    y = torch.tensor([math.log(error) for error in errors], dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return -float((x @ y) / (x @ x))
