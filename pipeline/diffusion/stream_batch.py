"""Stream Batch: T denoising steps of T successive frames in one call of the denoiser.

(StreamDiffusion, arXiv 2312.12491, section 3.1.) Position k holds a frame that is about to take step k; position T
holds the frame that finished last. At each tick every frame takes its step and moves one position on, so that at tick n
position k holds frame n - k. Whatever a solver or RCFG needs of a frame (earlier data predictions, the solver's anchor,
the input latent, ``x0*``) is a field of its slot (``slots.py``) and moves along::

    enter -> [0] -step 0-> [1] -step 1-> [2] ... [T-1] -step T-1-> [T] -> decode

The slots are written in place and never change their shape, so that a captured graph can run on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from pipeline.diffusion.guidance import (
    Guidance,
    RowLayout,
    combine_full,
    combine_image,
    data_weights,
    rescaled,
    row_layout,
)
from pipeline.diffusion.slots import Area, Field, Slots, repeated, within
from pipeline.diffusion.solver import SolverTable

# (rows, timesteps of the rows, which prompt each row is under, what else the slots show by name) to the model's output.
Denoise = Callable[[torch.Tensor, torch.Tensor, RowLayout, Mapping[str, torch.Tensor]], torch.Tensor]

NOWHERE = (0, 0, 0, 0)
_NOTHING: Mapping[str, torch.Tensor] = {}

# Data predictions of one, two and three steps back, and what each becomes when its frame moves on.
_HISTORY = {"previous": "data", "older": "previous", "oldest": "older"}


@dataclass(frozen=True, slots=True)
class _Call:
    """Whatever one call of the denoiser, on positions ``first`` to ``end - 1``, has the same at every tick.

    Weights are (end - first, 1, 1, 1, 1), on the device.

    Attributes:
        layout: which prompt each row is under.
        again: how many rows are asked for once more, under another prompt.
        blind: how many rows at the end are not shown the input.
        timesteps: of all rows.
        to_data: weights of latent and guided output in the data prediction.
        star: weight of ``x0*`` in it; None where it is not looked at.
        unguided: as ``to_data``, for the output without guidance.
        latent, anchor: the rows of the solver's step, without the noise.
        noise: (end - first, 1, C, h, w) what the noise adds to the next latent; None where it adds nothing.
        entering: a frame comes in at position ``first`` as the first of these times its latent, plus the second.
    """

    first: int
    end: int
    layout: RowLayout
    again: int
    blind: int
    timesteps: torch.Tensor
    to_data: tuple[torch.Tensor, torch.Tensor]
    star: torch.Tensor | None
    unguided: tuple[torch.Tensor, torch.Tensor]
    latent: Mapping[str, torch.Tensor]
    anchor: Mapping[str, torch.Tensor]
    noise: torch.Tensor | None
    entering: tuple[torch.Tensor, torch.Tensor]


class StreamBatch:
    """The frames in flight, and the one call of the denoiser that moves them all.

    All tensors have the shape (positions, F, C, h, w), and the number format and device of the noise.

    Attributes:
        frames: F, how many come in at each tick.
        table: the solver's rows in force; there from ``prepare`` on.
        from_noise: a frame enters as noise alone, and its latent is only what the denoiser sees besides.
    """

    table: SolverTable

    def __init__(
        self,
        denoise: Denoise,
        frames: int,
        latent_shape: tuple[int, int, int],
        sees_input: bool = False,
        input_scale: float = 1.0,
        shown: Mapping[str, tuple[int, int, int]] | None = None,
        beside: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> None:
        """Nothing is allocated before ``prepare``.

        Args:
            frames: F.
            latent_shape: (C, h, w).
            sees_input: the denoiser's rows have the input latent, times ``input_scale``, after the latent.
            shown: (channels, height, width) of what travels with each frame and is shown to the denoiser, by name;
                every frame brings its own (``carried`` of ``tick``).
            beside: the same of what is a part of the denoiser's rows, after the latent; of the latent's size.
        """
        self._denoise = denoise
        self.frames = frames
        self._shape = latent_shape
        self._input_scale = input_scale if sees_input else None
        self._shown = dict(shown or {})
        self._beside = dict(beside or {})
        self._guidance = Guidance()
        self._given_start = False  # whether each frame comes with a noise of its own
        self.from_noise = False

    @property
    def layout(self) -> RowLayout:
        """Which prompt each row of a tick's call is under."""
        return self._whole.layout

    def prepare(self, table: SolverTable, noise: torch.Tensor) -> None:
        """Allocate for ``table``; no frame is in flight afterwards.

        Args:
            noise: (T + 1, C, h, w), fixed for each position; the last is that of a stochastic solver's last step.
        """
        self.table = table
        self._noise = noise.unsqueeze(1)
        self._slots = Slots(table.steps + 1, self.frames, self._fields(), noise)
        self._whole = self._call(0, table.steps)

    def set_guidance(
        self, kind: str, scale: float = 1.0, delta: float = 1.0, image_scale: float = 1.0, rescale: float = 0.0
    ) -> None:
        """Take another guidance, after ``prepare``; the arguments are those of ``Guidance``.

        Frames in flight keep their ``x0*``. Where none was carried before it is their input latent, if the denoiser
        sees it, and else what their data prediction is by now.
        """
        image_scale = image_scale if self._input_scale is not None and kind == "full" else 1.0
        guides = kind != "none" and (scale != 1 or image_scale != 1)
        carried = self._guidance.is_residual
        self._guidance = Guidance(kind, scale, delta, image_scale, rescale if guides else 0.0)
        if self._guidance.is_residual != carried:
            self._rebuild(torch.arange(self.table.steps + 1, device=self._noise.device))
        self._whole = self._call(0, self.table.steps)

    def prime(
        self,
        latent: torch.Tensor,
        start: torch.Tensor | None = None,
        carried: Mapping[str, torch.Tensor] = _NOTHING,
    ) -> torch.Tensor:
        """Denoise one input latent (F, C, h, w) step by step, and leave it at every position on the way.

        ``start`` and ``carried`` as in ``tick``.

        Returns the finished latent. Nothing that was in flight before is left.
        """
        self._enter(latent, start, carried, None)
        for step in range(self.table.steps):
            self._advance(self._call(step, step + 1), None)
        return self._slots["x"][-1]

    def tick(
        self,
        latent: torch.Tensor,
        start: torch.Tensor | None = None,
        moving: Callable[[], Area] | None = None,
        carried: Mapping[str, torch.Tensor] = _NOTHING,
    ) -> torch.Tensor:
        """Let an input latent (F, C, h, w) in, move every frame one step on; the latent that finished.

        Args:
            latent: of the input pictures; zero where there are none.
            start: (F, C, h, w) the noisy latents to start from, for pictures with no input; by default ``latent`` under
                the first position's noise.
            moving: tells, before the denoiser is called and once more after, outside of which area ``latent`` and all
                positions are as at the tick before: nothing is written there. Everywhere may have changed by default.
            carried: by name, (F, channels, height, width) of everything that is ``shown`` to the denoiser besides.

        Raises:
            ValueError: ``carried`` is not what ``shown`` and ``beside`` announced.
        """
        if moving is None or moving() != NOWHERE:
            self._enter(latent, start, carried, moving)
            self._advance(self._whole, moving)
        return self._slots["x"][-1]

    def show(self, carried: Mapping[str, torch.Tensor]) -> None:
        """From now on frames bring what is in ``carried``, besides what is a part of the rows.

        Frames in flight keep what they have brought of it; of the rest they are given what ``carried`` holds, that of
        the frame which comes next: it is like theirs, and nothing would be like nothing.
        """
        shown = {name: (value.shape[1], value.shape[2], value.shape[3]) for name, value in carried.items()}
        shown = {name: shape for name, shape in shown.items() if name not in self._beside}
        if shown != self._shown:
            self._shown = shown
            self._rebuild(torch.arange(self.table.steps + 1, device=self._noise.device), carried)

    def change(self, table: SolverTable, noise: torch.Tensor) -> None:
        """Go on with another table: other timesteps, another solver, more or fewer steps.

        Each frame in flight keeps its data prediction and is noised anew to the level that its position now has, so no
        picture is ever made of a latent at the wrong noise level. With more steps, the frame that finished last fills
        the new positions; with fewer, the oldest frames fall out.
        """
        last, data, like = self.table.steps, self._data(), self._noise
        alpha, sigma = _column(self.table.alpha, like), _column(self.table.sigma, like)
        # What noise a frame is under, where it is not that of its position.
        own = (self._slots["x"][:-1] - alpha * data[:-1]) / sigma
        self.table, self._noise = table, noise.unsqueeze(1)
        origin = torch.arange(table.steps + 1, device=noise.device).clamp_max(last)
        self._rebuild(origin)
        self._whole = self._call(0, table.steps)
        which = torch.arange(table.steps) if table.renoises else torch.zeros(table.steps, dtype=torch.long)
        under = self._noise[which.to(noise.device)]
        if self._given_start and not table.renoises:
            under = torch.cat([own, self._noise[:1].expand_as(own[:1])])[origin[:-1]]
        data = data[origin]
        alpha, sigma = _column(table.alpha, noise), _column(table.sigma, noise)
        slots, at = self._slots, table.anchor_step.to(noise.device)
        slots["x"][:-1] = alpha * data[:-1] + sigma * under
        slots["x"][-1] = data[-1]
        if "previous" in slots:
            slots["previous"].copy_(data)
        if "anchor" in slots:
            slots["anchor"][:-1] = alpha[at] * data[:-1] + sigma[at] * under
        if "earlier" in slots:  # goes with the data prediction of two steps back
            at = at[(torch.arange(table.steps, device=at.device) - 1).clamp_min(0)]
            slots["earlier"][:-1] = alpha[at] * slots["older"][:-1] + sigma[at] * under

    def _fields(self) -> list[Field]:
        """What each slot carries under this table and guidance; each field comes after those that take from it."""
        table, shape = self.table, self._shape
        needed = {name for name in _HISTORY if table.uses(name)}
        if table.steps > 1:
            needed.add("previous")  # without it a frame halfway could not go on under another table (``change``)
        fields = [Field(name, shape, _HISTORY[name]) for name in reversed(_HISTORY) if name in needed]
        if table.uses("earlier"):
            fields.append(Field("earlier", shape, "anchor"))
        if table.anchor:
            fields.append(Field("anchor", shape, "anchored"))
        if self._guidance.is_residual:
            fields.append(Field("star", shape, "star"))
        fields.append(Field("x", shape, "following", in_rows=True))
        if self._input_scale is not None:
            fields.append(Field("input", shape, "input", in_rows=True))
        fields += [Field(name, size, name, in_rows=True, whole=True) for name, size in self._beside.items()]
        return [*fields, *(Field(name, size, name, shown=True, whole=True) for name, size in self._shown.items())]

    def _rebuild(self, origin: torch.Tensor, carried: Mapping[str, torch.Tensor] = _NOTHING) -> None:
        """Other fields, other positions: position k goes on with what position ``origin[k]`` held before."""
        before, data = self._slots, self._data()
        self._slots = Slots(len(origin), self.frames, self._fields(), self._noise)
        for name in self._slots.names:
            if name in before and before[name].shape[2:] == self._slots[name].shape[2:]:
                held = before[name]
            elif name in carried:
                self._slots[name].copy_(carried[name])
                continue
            elif name == "star" and self._input_scale:
                held = before["input"] / self._input_scale
            else:
                held = data
            self._slots[name].copy_(held[origin])

    def _data(self) -> torch.Tensor:
        """(T + 1, F, C, h, w) the data predictions so far; that of a finished frame is its latent."""
        latent = self._slots["x"]
        if "previous" not in self._slots:  # with one step no frame is ever halfway
            return latent.clone()
        return torch.cat([self._slots["previous"][:-1], latent[-1:]])

    def _call(self, first: int, end: int) -> _Call:
        """Under the table and guidance in force."""
        table, guidance, noise, here = self.table, self._guidance, self._noise, slice(first, end)
        guided, plain = data_weights(table, guidance), data_weights(table, Guidance())
        shares = dict(table.latent)
        noise_share = shares.pop("noise", None)
        steps = [*shares.values(), *table.anchor.values()]
        columns = [guided.latent, guided.output, guided.star, plain.latent, plain.output, table.alpha, table.sigma]
        columns.append(torch.zeros_like(table.alpha) if noise_share is None else noise_share)
        # All in one go, as each copy to a device may wait for it.
        packed = torch.stack([*columns, *steps])[:, here].to(noise.device, noise.dtype)
        weights = packed.view(len(packed), -1, 1, 1, 1, 1).unbind()
        latent, output, star, plain_latent, plain_output, alpha, sigma, new = weights[: len(columns)]
        rows = weights[len(columns) :]
        layout = row_layout(guidance.kind, end - first, self.frames, first == 0, guidance.by_image)
        again = sum(count for _, count in layout[1:])
        return _Call(
            first=first,
            end=end,
            layout=layout,
            again=again,
            blind=(end - first) * self.frames if guidance.by_image else 0,
            timesteps=repeated(self._told(table.timesteps[here]).repeat_interleave(self.frames), again),
            to_data=(latent, output),
            star=star if guidance.is_residual else None,
            unguided=(plain_latent, plain_output),
            latent=dict(zip(shares, rows[: len(shares)], strict=True)),
            anchor=dict(zip(table.anchor, rows[len(shares) :], strict=True)),
            noise=None if noise_share is None else new * noise[first + 1 : end + 1],
            entering=(alpha[0], sigma[0] * noise[first]),
        )

    def _told(self, timesteps: torch.Tensor) -> torch.Tensor:
        """On the device, in a number format that tells them all apart; the same for every table."""
        return timesteps.to(self._noise.device, torch.promote_types(self._noise.dtype, torch.float32))

    def _enter(
        self,
        latent: torch.Tensor,
        start: torch.Tensor | None,
        carried: Mapping[str, torch.Tensor],
        moving: Callable[[], Area] | None,
    ) -> None:
        announced = self._beside.keys() | self._shown.keys()
        if carried.keys() != announced:
            brought, shown = (", ".join(sorted(names)) or "nothing" for names in (carried, announced))
            raise ValueError(f"the frames bring {brought}; what was announced to be shown to the denoiser is {shown}")
        self._given_start = start is not None
        slots, area = self._slots, self._area(moving)
        latent, x = within(latent, slots.rows, area), slots.part("x", 0, area)
        if start is not None or self.from_noise:
            x.copy_(within(self._noise[0] if start is None else start, slots.rows, area))
        else:
            alpha, noise = self._whole.entering
            torch.addcmul(within(noise, slots.rows, area), alpha, latent, out=x)
        if self._input_scale is not None:
            torch.mul(latent, self._input_scale, out=slots.part("input", 0, area))
        if self._guidance.is_residual:
            slots.part("star", 0, area).copy_(latent)
        for name, value in carried.items():
            slots[name][0].copy_(value)

    def _advance(self, call: _Call, moving: Callable[[], Area] | None) -> None:
        """The frames at the positions of ``call`` take their step and move to the next."""
        slots, here = self._slots, slice(call.first, call.end)
        positive, output = self._ask(call)
        area = self._area(moving)
        output = within(output, slots.rows, area)
        columns = {
            name: slots.part(name, here, area) for name in (*_HISTORY, "earlier", "anchor", "x") if name in slots
        }
        # Each pass over the latents counts: together they take longer than a small part of the network.
        data = (call.to_data[0] * columns["x"]).addcmul_(call.to_data[1], output)
        if call.star is not None:
            data.addcmul_(call.star, slots.part("star", here, area))
        if self._guidance.rescale:
            unguided = (call.unguided[0] * columns["x"]).addcmul_(call.unguided[1], positive)
            data = rescaled(data, unguided, self._guidance.rescale)
        columns["data"] = data
        noise = None if call.noise is None else within(call.noise, slots.rows, area)
        made = {"data": data, "following": _combined(call.latent, columns, noise)}
        if call.anchor:
            made["anchored"] = _combined(call.anchor, columns)
        slots.move(call.first, call.end, made, area)

    def _area(self, moving: Callable[[], Area] | None) -> Area:
        """Of what this tick writes to, as it is known by now."""
        # Rescaling looks at the contrast of the whole, which is never quite what it was.
        return None if moving is None or self._guidance.rescale else moving()

    def _ask(self, call: _Call) -> tuple[torch.Tensor, torch.Tensor]:
        """The denoiser's output for the frames at the positions of ``call``, (positions, F, C, h, w) each.

        Under the prompt alone, and with full guidance.
        """
        guidance, slots, shape = self._guidance, self._slots, (call.end - call.first, self.frames)
        rows, shown = slots.laid_out(call.first, call.end, call.again)
        if call.blind:
            rows[-call.blind :, self._shape[0] : 2 * self._shape[0]] = 0
        output = self._denoise(rows, call.timesteps, call.layout, shown)
        positive = output[: shape[0] * shape[1]].unflatten(0, shape)
        if guidance.by_image:
            return positive, combine_image(output.unflatten(0, (3, *shape)), guidance.scale, guidance.image_scale)
        if not call.again:
            return positive, positive
        negative = output[len(output) - call.again :]
        if guidance.kind == "full":
            return positive, combine_full(positive, negative.unflatten(0, shape), guidance.scale)
        # The answer to the negative prompt at the first step is the ``x0*`` of the frames that have just come in.
        p, q = float(self.table.p[0]), float(self.table.q[0])
        torch.mul(slots["x"][0], p, out=slots["star"][0]).add_(negative, alpha=q)
        return positive, positive


def _combined(
    row: Mapping[str, torch.Tensor], columns: Mapping[str, torch.Tensor], constant: torch.Tensor | None = None
) -> torch.Tensor:
    """The linear combination of ``columns`` with the weights of ``row``, and of ``constant`` with weight one."""
    total = None
    for name, weight in row.items():
        if total is not None:
            total.addcmul_(weight, columns[name])
        elif constant is not None:
            total = torch.addcmul(constant, weight, columns[name])
        else:
            total = weight * columns[name]
    assert total is not None, "every step looks at the latent or at the data prediction"
    return total


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(T,) float64 to (T, 1, 1, 1, 1) on the device and in the number format of ``like``."""
    return values.to(like.device, like.dtype).view(-1, 1, 1, 1, 1)
