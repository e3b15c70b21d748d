"""Networks to put a stream batch around, and each frame denoised alone, with which every batch must agree.

A new architecture inherits the tests of ``test_stream_batch.py`` by one more entry in ``NETWORKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch

from pipeline.backends.eager import EagerBackend
from pipeline.denoiser import Denoiser
from pipeline.diffusion.guidance import NEGATIVE, Guidance, RowLayout
from pipeline.diffusion.schedule import FlowMatching, Schedule, VariancePreserving
from pipeline.diffusion.solver import SolverTable
from pipeline.diffusion.stream_batch import Denoise, StreamBatch
from tests.tiny_model import tiny_model

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Network:
    """A denoiser and what has to be known of it.

    Attributes:
        denoise: as the stream batch calls it.
        schedule: what it was trained on.
        shape: (C, h, w) of a latent.
        dtype: number format of the latents.
        close: how far apart two of its latents may be.
        sees_input: its rows have the input latent after the latent.
        shown: (channels, height, width) of what it is shown besides, by name.
        beside: the same of what is a part of its rows, after the latent.
    """

    denoise: Denoise
    schedule: Schedule
    shape: tuple[int, int, int]
    dtype: torch.dtype = torch.float64
    close: float = 1e-9
    sees_input: bool = False
    shown: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    beside: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def batch(self, table: SolverTable, frames: int, guidance: Guidance, seed: int = 0) -> StreamBatch:
        """A stream batch around it, with no frame in flight."""
        batch = StreamBatch(self.denoise, frames, self.shape, self.sees_input, shown=self.shown, beside=self.beside)
        batch.prepare(table, self.noise(table.steps, seed))
        guide(batch, guidance)
        return batch

    def noise(self, steps: int, seed: int = 0) -> torch.Tensor:
        """(steps + 1, C, h, w): that of each position."""
        generator = torch.Generator().manual_seed(seed)
        return torch.stack([torch.randn(self.shape, generator=generator, dtype=self.dtype) for _ in range(steps + 1)])

    def clip(self, count: int, seed: int = 1) -> torch.Tensor:
        """(count, C, h, w): latents that differ plainly."""
        return torch.randn(count, *self.shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)


class Convolutions:
    """Two convolutions with a sigmoid between, whose answer depends on timestep, prompt and what it is shown."""

    def __init__(self, channels: int, seen: int, kernel: int = 3, shown: int = 0) -> None:
        draw = torch.Generator().manual_seed(7)
        self._first = 0.4 * torch.randn(6, seen, kernel, kernel, generator=draw, dtype=torch.float64)
        self._second = 0.4 * torch.randn(channels, 6, kernel, kernel, generator=draw, dtype=torch.float64)
        self._prompts = torch.randn(2, 6, 1, 1, generator=draw, dtype=torch.float64)
        self._times = torch.randn(6, 1, 1, generator=draw, dtype=torch.float64)
        self._shown = torch.randn(6, shown, generator=draw, dtype=torch.float64)

    def __call__(
        self, rows: torch.Tensor, timesteps: torch.Tensor, layout: RowLayout, carried: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        assert len(rows) == len(timesteps) == sum(count for _, count in layout)
        prompts = torch.cat([self._prompts[prompt].expand(count, 6, 1, 1) for prompt, count in layout])
        hidden = torch.nn.functional.conv2d(rows.double(), self._first, padding="same") + prompts
        hidden = hidden + self._times * (timesteps.double() / 1000).view(-1, 1, 1, 1)
        for hint in carried.values():
            assert len(hint) == len(rows)
            hidden = hidden + (hint.mean((2, 3)) @ self._shown.T)[..., None, None]
        return torch.nn.functional.conv2d(hidden.sigmoid(), self._second, padding="same").to(rows.dtype)


@cache
def _stable_diffusion(prediction_type: str) -> Schedule:
    return VariancePreserving.from_config({**STABLE_DIFFUSION, "prediction_type": prediction_type})


def _noise_prediction() -> Network:
    return Network(Convolutions(3, 3), _stable_diffusion("epsilon"), (3, 6, 5))


def _seeing_the_input() -> Network:
    return Network(Convolutions(3, 6), _stable_diffusion("v_prediction"), (3, 6, 5), sees_input=True)


def _velocity() -> Network:
    return Network(Convolutions(3, 3), FlowMatching(shift=3.0), (3, 6, 5))


def _tiny_unet() -> Network:
    model = tiny_model()
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a watercolour", "a photo")
    return Network(denoiser, model.schedule, (4, 4, 4), torch.float32, 1e-4)


NETWORKS: dict[str, Callable[[], Network]] = {
    "noise prediction": _noise_prediction,
    "seeing the input": _seeing_the_input,
    "velocity": _velocity,
    "tiny UNet": _tiny_unet,
}


def guide(batch: StreamBatch, guidance: Guidance) -> None:
    """Give a batch this guidance."""
    batch.set_guidance(guidance.kind, guidance.scale, guidance.delta, guidance.image_scale, guidance.rescale)


@torch.inference_mode()
def alone(
    network: Network,
    table: SolverTable,
    latent: torch.Tensor,
    guidances: Guidance | Sequence[Guidance],
    *,
    seed: int = 0,
    start: torch.Tensor | None = None,
    carried: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """One frame (C, h, w), one call a row and a step, as the papers write it; the finished latent.

    Args:
        guidances: one for each step, or one for all.
        seed: of the positions' noise.
        start: the noisy latent to start from; by default ``latent`` under noise.
        carried: of this frame, by name, (channels, height, width).
    """
    each = [guidances] * table.steps if isinstance(guidances, Guidance) else guidances
    noise, seen = network.noise(table.steps, seed), latent[None]
    shown = {name: value[None] for name, value in (carried or {}).items()}
    beside = [shown.pop(name) for name in network.beside]
    x = table.alpha[0] * seen + table.sigma[0] * noise[0] if start is None else start[None]
    x = x.to(network.dtype)
    state: dict[str, torch.Tensor] = {}
    star: torch.Tensor | None = None

    def predicted(k: int, x: torch.Tensor, prompt: int, sighted: bool = True) -> torch.Tensor:
        """The data prediction, from one row of the model."""
        inputs = [seen if sighted else 0 * seen] if network.sees_input else []
        rows = torch.cat([x, *inputs, *beside], 1)
        output = network.denoise(rows, table.timesteps[k : k + 1], ((prompt, 1),), shown)
        return table.p[k] * x + table.q[k] * output

    for k, guidance in enumerate(each):
        plain = predicted(k, x, 0)
        if guidance.kind == "self-negative" and k == 0:
            star = seen
        if guidance.kind == "onetime-negative" and k == 0:
            star = predicted(k, x, NEGATIVE)
        if guidance.is_residual and star is None:
            star = seen if network.sees_input else state["previous"]
        if guidance.kind == "none":
            star = None
        data = _guided(plain, x, k, table, guidance, star, lambda sighted, k=k, x=x: predicted(k, x, NEGATIVE, sighted))
        if guidance.rescale:
            data = data * (1 - guidance.rescale + guidance.rescale * plain.std() / data.std())
        data = table.skip[k] * x + table.keep[k] * data
        state |= {"x": x, "data": data, "noise": noise[k + 1]}
        following, anchor = (
            sum((weights[k] * state[name] for name, weights in row.items() if weights[k] != 0), torch.zeros_like(x))
            for row in (table.latent, table.anchor)
        )
        state["oldest"], state["older"] = state.get("older", data), state.get("previous", data)
        state["previous"], state["earlier"], state["anchor"] = data, state.get("anchor", x), anchor
        x = following
    return x[0].to(network.dtype)


def _guided(
    plain: torch.Tensor,
    x: torch.Tensor,
    k: int,
    table: SolverTable,
    guidance: Guidance,
    star: torch.Tensor | None,
    negative: Callable[[bool], torch.Tensor],
) -> torch.Tensor:
    """The guided data prediction; ``negative`` asks for that under the negative prompt, with the input or without."""
    scale = guidance.scale
    if guidance.kind == "none":
        return plain
    if guidance.kind == "full":
        sighted = negative(True)
        guided = sighted + scale * (plain - sighted)
        return guided + (guidance.image_scale - 1) * (sighted - negative(False)) if guidance.by_image else guided
    assert star is not None
    alpha, sigma, delta = table.alpha[k], table.sigma[k], guidance.delta
    if alpha == 0:  # the noise is all there is, and says nothing about the data
        return scale * plain + (1 - scale) * star
    virtual = (x - alpha * star) / sigma
    epsilon = delta * virtual + scale * ((x - alpha * plain) / sigma - delta * virtual)
    return (x - sigma * epsilon) / alpha
