"""Stream Batch: T denoising steps of T successive frames in one UNet call.

(StreamDiffusion, arXiv 2312.12491, section 3.1.) Position k holds a frame that is about to take step k; position T
holds the frame that finished last. At each tick every frame takes its step and moves one position on, so that at tick n
position k holds frame n - k. Whatever a solver or RCFG needs of a frame (earlier data predictions, the anchor of a
singlestep group, the input latent, ``x0*``) lies at the same position and moves along::

    enter -> [0] -step 0-> [1] -step 1-> [2] ... [T-1] -step T-1-> [T] -> decode

The buffers are written in place and never change their shape, so that a captured graph can run on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline.diffusion.guidance import (
    RowLayout,
    combine_full,
    combine_image,
    data_weights,
    is_residual,
    rescaled,
    row_layout,
)
from pipeline.diffusion.solver import SolverTable

Denoise = Callable[[torch.Tensor, torch.Tensor, RowLayout], torch.Tensor]
# left, top, right, bottom in pixels of the latent, right and bottom past the last; None stands for everywhere.
Area = tuple[int, int, int, int] | None
NOWHERE = (0, 0, 0, 0)


class StreamBatch:
    """The frames in flight, and the one UNet call that moves them all.

    All tensors are float32 and have the shape (positions, F, C, h, w); F is the frame buffer.

    Attributes:
        table: the solver's rows in force; there from ``prepare`` on.
        from_noise: a frame enters as noise alone, and its latent is only what the UNet sees besides.
    """

    def __init__(
        self,
        denoise: Denoise,
        frames: int,
        latent_shape: tuple[int, int, int],
        sees_input: bool,
        input_scale: float = 1.0,
    ) -> None:
        """``latent_shape`` is (C, h, w); ``sees_input`` says that the UNet takes the input latent, scaled, as well."""
        self._denoise = denoise
        self._frames = frames
        self._shape = latent_shape
        self._sees_input = sees_input
        self._input_scale = input_scale
        self.from_noise = False
        self._kind, self._scale, self._image_scale, self._rescale = "none", 1.0, 1.0, 0.0
        self._given_start = False  # whether each frame comes with a noise of its own
        self._moving: Callable[[], Area] | None = None

    def prepare(self, table: SolverTable, noise: torch.Tensor) -> None:
        """Allocate for ``table``; no frame is in flight afterwards.

        Args:
            noise: (T + 1, C, h, w), fixed for each position; the last is that of a stochastic solver's last step.
        """
        self._set_table(table, noise)
        positions = table.steps + 1
        channels, *size = self._shape
        # What the UNet is given lies side by side, so that no tick has to put it together.
        self._rows = torch.zeros(positions, self._frames, channels * (1 + self._sees_input), *size, device=noise.device)
        self._latent = self._rows[:, :, :channels]
        blank = torch.zeros_like(self._latent)
        self._input = self._rows[:, :, channels:] if self._sees_input else blank.clone()
        self._data, self._older, self._anchor, self._star = blank, blank.clone(), blank.clone(), blank.clone()

    def _set_table(self, table: SolverTable, noise: torch.Tensor) -> None:
        self.table = table
        self._noise = noise.unsqueeze(1)
        self._timesteps = table.timesteps.to(noise.device)
        self._alpha, self._sigma = _column(table.alpha, noise), _column(table.sigma, noise)
        self._from_x, self._from_x0 = _column(table.a, noise), _column(table.b, noise)
        # Most solvers have weight on one of these or on none: the others cost nothing.
        self._others = {name: _column(getattr(table, name), noise) for name in "cdef" if table.uses(name)}
        self._entering_noise = self._sigma[0] * self._noise[0]
        # Whether the frame that arrives at position k + 1 starts a new singlestep group there.
        starts = torch.cat([table.group_start[1:] == torch.arange(1, table.steps), torch.tensor([True])])
        self._starts_group = starts.to(noise.device).view(-1, 1, 1, 1, 1)

    def set_guidance(
        self, kind: str, scale: float = 1.0, delta: float = 1.0, image_scale: float = 1.0, rescale: float = 0.0
    ) -> None:
        """Take another guidance; frames in flight keep their ``x0*``, at first their own input latent.

        Args:
            delta: of the virtual residual noise (``data_weights``).
            image_scale: other than 1 adds guidance by the input, for full guidance of a UNet that sees it.
            rescale: 0 to 1, how much of the unguided contrast is given back (``rescaled``).
        """
        if is_residual(kind) and not is_residual(self._kind):
            self._star.copy_(self._input)  # it has not been carried along
        self._kind = kind
        self._scale = scale
        self._image_scale = image_scale if self._sees_input and kind == "full" else 1.0
        guides = kind != "none" and (scale != 1 or self._image_scale != 1)
        self._rescale = rescale if guides else 0.0
        weights = data_weights(self.table, kind, scale, delta)
        unguided = data_weights(self.table, "none", 1.0, 1.0)
        self._unguided = _column(unguided.latent, self._noise), _column(unguided.output, self._noise)
        self._from_latent = _column(weights.latent, self._noise)
        self._from_output = _column(weights.output, self._noise)
        self._from_star = _column(weights.star, self._noise)

    def prime(self, latent: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
        """Denoise one input latent (F, C, h, w) step by step, and leave it at every position on the way.

        ``start`` as in ``tick``.

        Returns the finished latent. Nothing that was in flight before is left.
        """
        self._moving = None
        self._enter(latent, start)
        for step in range(self.table.steps):
            self._advance(step, step + 1)
        return self._latent[-1]

    def tick(
        self, latent: torch.Tensor, start: torch.Tensor | None = None, moving: Callable[[], Area] | None = None
    ) -> torch.Tensor:
        """Let an input latent (F, C, h, w) in, move every frame one step on; the latent that finished.

        Args:
            latent: of the input pictures; zero where there are none.
            start: (F, C, h, w) the noisy latents to start from, for pictures with no input; by default ``latent`` under
                the first position's noise.
            moving: tells, before the UNet is called and once more after, outside of which area ``latent`` and all
                positions are as at the tick before: nothing is written there. Everywhere may have changed by default.
        """
        self._moving = moving
        if moving is not None and moving() == NOWHERE:
            return self._latent[-1]
        self._enter(latent, start)
        self._advance(0, self.table.steps)
        return self._latent[-1]

    def change(self, table: SolverTable, noise: torch.Tensor) -> None:
        """Go on with another table: other timesteps, another solver, more or fewer steps.

        Each frame in flight keeps its data prediction and is noised anew to the level that its position now has, so no
        picture is ever made of a latent at the wrong noise level. With more steps, the frame that finished last fills
        the new positions; with fewer, the oldest frames fall out.
        """
        old = (self._data, self._older, self._input, self._star)
        last = self.table.steps
        finished = self._latent[last]
        # What noise a frame is under, where it is not that of its position.
        own = (self._latent[:-1] - self._alpha * self._data[:-1]) / self._sigma
        self.prepare(table, noise)
        steps = table.steps
        origin = torch.arange(steps + 1, device=noise.device).clamp_max(last)
        for mine, before in zip((self._data, self._older, self._input, self._star), old, strict=True):
            mine.copy_(before[origin])
        self._data[origin == last] = finished
        which = torch.arange(steps) if table.renoises else torch.zeros(steps, dtype=torch.long)
        under = self._noise[which.to(noise.device)]
        if self._given_start and not table.renoises:
            under = torch.cat([own, self._noise[:1].expand_as(own[:1])])[origin[:-1]]
        self._latent[:-1] = self._alpha * self._data[:-1] + self._sigma * under
        self._latent[-1] = self._data[-1]
        group = table.group_start.to(noise.device)
        self._anchor[:-1] = self._alpha[group] * self._data[:-1] + self._sigma[group] * under

    def _enter(self, latent: torch.Tensor, start: torch.Tensor | None) -> None:
        self._given_start = start is not None
        area, first = self._index(), self._latent[0]
        latent = latent[area]
        if start is not None or self.from_noise:
            first[area] = (self._noise[0] if start is None else start)[area]
        else:
            torch.mul(latent, self._alpha[0], out=first[area]).add_(self._entering_noise[area])
        if "e" in self._others:
            self._anchor[0][area] = first[area]
        for carried in (self._data, self._older, self._input):
            carried[0][area] = latent
        if is_residual(self._kind):
            self._star[0][area] = latent

    def _advance(self, first: int, end: int) -> None:
        """Steps ``first`` to ``end - 1``: the frames at those positions move to the next."""
        here, there = slice(first, end), slice(first + 1, end + 1)
        positive, output = self._ask(first, end)
        area = self._index()
        positive, output = positive[area], output[area]
        x, before = self._latent[here][area], self._data[here][area]
        # Each pass over the latents counts: together they take longer than a small part of the UNet.
        data = (self._from_latent[here] * x).addcmul_(self._from_output[here], output)
        if is_residual(self._kind):
            data.addcmul_(self._from_star[here], self._star[here][area])
        if self._rescale:
            from_latent, from_output = self._unguided
            data = rescaled(data, from_latent[here] * x + from_output[here] * positive, self._rescale)
        following = (self._from_x[here] * x).addcmul_(self._from_x0[here], data)
        sources = {
            "c": before,
            "d": self._older[here][area],
            "e": self._anchor[here][area],
            "f": self._noise[there][area],
        }
        for name, weight in self._others.items():
            following.addcmul_(weight[here], sources[name])
        if "e" in self._others:
            self._anchor[there][area] = torch.where(self._starts_group[here], following, sources["e"])
        self._older[there][area] = before
        self._data[there][area] = data
        for carried in (self._input, self._star) if is_residual(self._kind) else (self._input,):
            moving = carried[here][area]
            carried[there][area] = moving.clone() if end - first > 1 else moving
        self._latent[there][area] = following

    def _index(self) -> tuple[Any, ...]:
        """Of what this tick writes to, as it is known by now."""
        # Rescaling looks at the contrast of the whole, which is never quite what it was.
        area = None if self._moving is None or self._rescale else self._moving()
        return (...,) if area is None else (..., slice(area[1], area[3]), slice(area[0], area[2]))

    def _ask(self, first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The UNet's output for the frames at positions ``first`` to ``end - 1``, (end - first, F, C, h, w) each.

        Under the prompt alone, and with full guidance.
        """
        slots, frames = end - first, self._frames
        by_image = self._image_scale != 1
        layout = row_layout(self._kind, slots, frames, first == 0, by_image)
        negatives = sum(count for _, count in layout[1:])
        blind = slots * frames if by_image else 0  # rows at the end that are not shown the input
        if negatives or self._input_scale != 1:
            rows = self._put_together(first, end, negatives, blind)
        else:
            rows = self._rows[first:end].flatten(0, 1)
        timesteps = self._timesteps[first:end].repeat_interleave(frames)
        if negatives:
            timesteps = torch.cat([timesteps, timesteps[: negatives - blind], timesteps[:blind]])
        output = self._denoise(rows, timesteps, layout)
        positive = output[: slots * frames].unflatten(0, (slots, frames))
        if by_image:
            return positive, combine_image(output.unflatten(0, (3, slots, frames)), self._scale, self._image_scale)
        if self._kind == "full":
            negative = output[slots * frames :].unflatten(0, (slots, frames))
            return positive, combine_full(positive, negative, self._scale)
        if negatives:
            table = self.table
            self._star[0] = float(table.p[0]) * self._latent[0] + float(table.q[0]) * output[slots * frames :]
        return positive, positive

    def _put_together(self, first: int, end: int, negatives: int, blind: int) -> torch.Tensor:
        """The rows of positions ``first`` to ``end - 1``, and so many of them again; the last ``blind`` see nothing."""
        rows = self._latent[first:end].flatten(0, 1)
        rows = torch.cat([rows, rows[: negatives - blind], rows[:blind]])
        if not self._sees_input:
            return rows
        shown = self._input[first:end].flatten(0, 1)
        shown = shown if self._input_scale == 1 else shown * self._input_scale
        return torch.cat([rows, torch.cat([shown, shown[: negatives - blind], torch.zeros_like(shown[:blind])])], dim=1)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(T,) float64 to (T, 1, 1, 1, 1) float32 on the device of ``like``."""
    return values.to(like.device, torch.float32).view(-1, 1, 1, 1, 1)
