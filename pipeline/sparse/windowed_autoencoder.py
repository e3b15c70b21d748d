"""An encoder or decoder that computes only what changed: on windows of the picture, by whatever runs the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from pipeline.sparse.buffer_pool import BufferAgePool
from pipeline.sparse.costs import Costs
from pipeline.sparse.rectangles import Change, Rectangle, cut, grown, placed, scaled, shape_of, window
from pipeline.sparse.window_shapes import WindowShapes

# Pixels around a change whose latent is computed anew, and pixels that are looked at beyond those. The receptive field
# of a tiny encoder is 118 pixels wide on each side, but what lies farther off than this hardly weighs.
ENCODER_WRITES, ENCODER_HALO = 8, 8
# The same for the decoder, around the changed picture; the latent has changed as far as the UNet writes. With a halo of
# 8 pixels, seams are seen in flat areas; the encoder's latents are as good with 8 as with 16.
DECODER_WRITES, DECODER_HALO = 8, 16
# Sides of windows in pixels of the picture: compiled networks prepare something for each shape.
SIDES = (64, 96, 112, 128, 144, 160, 176, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536)
# What a window costs beside its area, as a share of the whole.
OVERHEAD = 0.04
# As many shapes of windows are used. One of the encoder takes as long as a whole picture once, to be prepared; one of
# the decoder is a network of its own, of some ten megabytes, whose build takes a part of a second.
ENCODER_SHAPES, DECODER_SHAPES = 48, 20
# After the first few, one is prepared in so many windows wanted.
ENCODER_ONE_IN, DECODER_ONE_IN = 8, 16

# Runs one half of the autoencoder on a window; None where there is no network for its shape yet.
OfWindow = Callable[[torch.Tensor], torch.Tensor | None]


class WindowedAutoencoder:
    """An autoencoder's encoder or decoder. Keeps what it gave last, and computes parts of it anew.

    Attributes:
        costs: of its windows, in pixels of the latent.
        share: of the picture that was computed at the last call, halos included; 1 where it was the whole.
    """

    def __init__(
        self,
        run: Callable[[torch.Tensor], torch.Tensor],
        factor: int,
        encodes: bool,
        shaped: OfWindow | None = None,
    ) -> None:
        """Args:
        run: the network, (B, c, h, w) to (B, C, H, W).
        factor: pixels of the picture that a pixel of the latent spans.
        encodes: whether it makes latents of pictures, not pictures of latents.
        shaped: the same for windows, whose shapes have to be prepared; gives None where this one is not there yet.
            None where all shapes are alike.
        """
        self._run, self._shaped, self._factor = run, shaped, factor
        most, one_in = (ENCODER_SHAPES, ENCODER_ONE_IN) if encodes else (DECODER_SHAPES, DECODER_ONE_IN)
        self._shapes = WindowShapes(None if shaped is None else most, one_in)
        self._input, self._output = (factor, 1) if encodes else (1, factor)
        self._writes, self._halo = (ENCODER_WRITES, ENCODER_HALO) if encodes else (DECODER_WRITES, DECODER_HALO)
        self._kept = BufferAgePool(self._output)
        self._shape: tuple[int, ...] = ()
        self.costs = Costs(OVERHEAD)
        self.share = 1.0

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._kept.memory

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._kept.forget()

    def __call__(self, x: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
        """What the network makes of ``x`` (B, c, h, w), of which only ``changes`` differ from the last call's.

        Args:
            changes: for each row, in pixels of the picture.
        """
        height, width = x.shape[2] // self._input, x.shape[3] // self._input
        known = self._kept.newest is not None and self._shape == tuple(x.shape)
        plans = [
            self._plan(x[row : row + 1], change if known else None, width, height) for row, change in enumerate(changes)
        ]
        self._shape = tuple(x.shape)
        if all(plan is None for plan in plans):
            self.share = 1.0
            return self._kept.replace(self._timed(x, (height, width)))
        everything = (0, 0, width, height)
        kept = self._kept.changing(
            [target for plan in plans for target, _ in ([(everything, everything)] if plan is None else plan)]
        )
        computed = 0
        for row, plan in enumerate(plans):
            if plan is None:
                kept[row] = self._timed(x[row : row + 1], (height, width))[0]
                computed += height * width
                continue
            for target, view in plan:
                shape, origin = shape_of(view), view[:2]
                part = self._window(cut(x[row : row + 1], view, scale=self._input), shape, (height, width))
                inside = cut(kept[row : row + 1], target, scale=self._output)
                new = cut(part, target, origin, self._output)
                if self._output > 1:
                    inside.lerp_(new, self._fade(target, width, height).to(inside.device, inside.dtype))
                else:
                    inside.copy_(new)
                computed += math.prod(shape)
        self.share = computed / (height * width * len(x))
        return kept

    def _plan(
        self, x: torch.Tensor, change: Change, width: int, height: int
    ) -> list[tuple[Rectangle, Rectangle]] | None:
        """What to write and what to look at for it, in pixels of the latent; None where the whole is faster.

        Args:
            x: (1, c, h, w) the input.
        """
        if change is None:
            return None
        plan, sides = [], [side // self._factor for side in SIDES]
        size = (width * self._factor, height * self._factor)
        for rectangle in change:
            target = scaled(grown(rectangle, self._writes, *size), self._factor)
            looked_at = scaled(grown(rectangle, self._writes + self._halo, *size), self._factor)
            plan.append((target, looked_at, window(looked_at, width, height, 1, sides)))
        if not self.costs.worth((shape_of(view) for *_, view in plan), (height, width)):
            return None
        found = [(target, self._built(x, looked_at, view)) for target, looked_at, view in plan]
        views = [(target, view) for target, view in found if view is not None]
        if len(views) < len(found) or not self.costs.worth((shape_of(view) for _, view in views), (height, width)):
            return None
        return views

    def _built(self, x: torch.Tensor, looked_at: Rectangle, view: Rectangle) -> Rectangle | None:
        """``view``, or one in its place that there is a network for."""
        if self._shaped is None:
            return view
        shaped, (height, width) = self._shaped, (x.shape[2] // self._input, x.shape[3] // self._input)

        def moved(shape: tuple[int, ...]) -> Rectangle | None:
            return placed(looked_at, (shape[0], shape[1]), width, height, 1)

        def runs(shape: tuple[int, ...]) -> bool:
            place = moved(shape)
            return place is not None and shaped(cut(x, place, scale=self._input)) is not None

        def cost(shape: tuple[int, ...]) -> float:
            return self.costs.share(shape, (height, width))

        own = shape_of(view)
        found = self._shapes.pick(own, lambda shape: moved(shape) is not None, runs, cost)
        return view if found == own else None if found is None else moved(found)

    def _fade(self, target: Rectangle, width: int, height: int) -> torch.Tensor:
        """(h, w) how much of what is new each pixel of the picture inside ``target`` takes.

        All of it, but at the rim, where the picture has only changed as far as the network looks: it fades in over
        the width of that, so that no edge is seen. At the border of the picture there is no rim.
        """
        left, top, right, bottom = target
        shape = ((bottom - top) * self._output, (right - left) * self._output)
        return _faded(shape, (top > 0, bottom < height, left > 0, right < width), self._writes)

    def _window(self, x: torch.Tensor, shape: tuple[int, int], whole: tuple[int, int]) -> torch.Tensor:
        with self.costs.timed(shape, whole, 1, x.device):
            found = self._run(x) if self._shaped is None else self._shaped(x)
        if found is None:
            self._shapes.lost(shape)
        return self._run(x) if found is None else found

    def _timed(self, x: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        with self.costs.timed(shape, shape, len(x), x.device):
            return self._run(x)


@lru_cache(maxsize=64)
def _faded(shape: tuple[int, int], rims: tuple[bool, bool, bool, bool], over: int) -> torch.Tensor:
    """``shape`` is (height, width); ``rims`` says where there are some: above, below, left, right."""
    above, below, left, right = rims
    return _ramp(shape[0], above, below, over)[:, None] * _ramp(shape[1], left, right, over)


def _ramp(length: int, from_first: bool, to_last: bool, over: int) -> torch.Tensor:
    """(length,) ones, rising over the first and falling over the last pixels where asked for."""
    weights, rising = torch.ones(length), (torch.arange(over) + 0.5) / over
    if from_first:
        weights[:over] *= rising
    if to_last:
        weights[-over:] *= rising.flip(0)
    return weights
