"""An encoder or decoder that computes only what changed: on windows of the picture, by whatever runs the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from pipeline.sparse.buffer_pool import BufferAgePool
from pipeline.sparse.costs import Costs
from pipeline.sparse.networks import SparseNetworks
from pipeline.sparse.rectangles import (
    Change,
    Rectangle,
    Shape,
    Size,
    Window,
    cut,
    grown,
    scaled,
    size_of,
    window_around,
    window_of_size,
)
from pipeline.sparse.stopwatch import HostStopwatch, Stopwatch
from pipeline.sparse.window_shapes import WindowShapes

# Pixels of the picture around a change whose latent is computed anew, and the halo that is looked at around those. The
# receptive field of a tiny encoder is 118 pixels wide on each side, but what lies farther off than this hardly weighs.
ENCODER_WRITE_MARGIN, ENCODER_HALO = 8, 16
# The same for the decoder, around the changed picture; the latent has changed as far as the UNet writes. With a halo of
# 8 pixels, seams are seen in flat areas; the encoder's latents are as good with 8 as with 16.
DECODER_WRITE_MARGIN, DECODER_HALO = 8, 16
# Lengths of a window's sides in pixels of the picture: few, as compiled networks prepare something for each shape.
PICTURE_SIDES = (64, 96, 112, 128, 144, 160, 176, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536)
# What a window costs beside its area, as a share of the whole.
AUTOENCODER_OVERHEAD = 0.04
# How many shapes of windows are prepared. One of the encoder takes as long as a whole picture once; one of the decoder
# is a network of its own, of some ten megabytes, whose build takes a part of a second.
ENCODER_SHAPES, DECODER_SHAPES = 48, 20
# After the first few shapes, the next one is chosen each time that so many windows were wanted.
ENCODER_ONE_IN, DECODER_ONE_IN = 8, 16

Run = Callable[[torch.Tensor], torch.Tensor]
# Runs a network on a window; None where there is no network for its shape yet.
RunWindow = Callable[[torch.Tensor], torch.Tensor | None]


class WindowedAutoencoder:
    """An autoencoder's encoder or decoder, which keeps what it gave last and computes parts of it anew.

    Attributes:
        costs: of its windows, in pixels of the latent.
        share: of the picture that was computed at the last call, halos included; 1 where it was the whole.
    """

    def __init__(
        self,
        run: Run,
        factor: int,
        encodes: bool,
        run_window: RunWindow | None = None,
        stopwatch: Callable[[], Stopwatch] = HostStopwatch,
    ) -> None:
        """Args:
        run: the network, (B, c, h, w) to (B, C, H, W).
        factor: pixels of the picture that a pixel of the latent spans.
        encodes: whether it makes latents of pictures, not pictures of latents.
        run_window: the same for windows, whose shapes have to be prepared. None where ``run`` takes any shape at once.
        stopwatch: starts a measurement of the device that the network runs on.
        """
        self._run, self._run_window, self._factor = run, run_window, factor
        most, one_in = (ENCODER_SHAPES, ENCODER_ONE_IN) if encodes else (DECODER_SHAPES, DECODER_ONE_IN)
        self._shapes = WindowShapes(None if run_window is None else most, one_in)
        # Pixels of the input and of the output in a pixel of the latent, in which windows are counted.
        self._input_scale, self._output_scale = (factor, 1) if encodes else (1, factor)
        self._margin, self._halo = (
            (ENCODER_WRITE_MARGIN, ENCODER_HALO) if encodes else (DECODER_WRITE_MARGIN, DECODER_HALO)
        )
        self._output = BufferAgePool(self._output_scale)
        self._input_shape: tuple[int, ...] = ()  # of the last call
        self.costs = Costs(AUTOENCODER_OVERHEAD, stopwatch)
        self.share = 1.0

    @classmethod
    def encoder(cls, networks: SparseNetworks) -> WindowedAutoencoder:
        """The encoder of a model whose autoencoder is a tiny one."""
        window = None if networks.any_shape else networks.encode_window
        return cls(networks.encode, networks.model.autoencoder.factor, True, window, networks.stopwatch)

    @classmethod
    def decoder(cls, networks: SparseNetworks) -> WindowedAutoencoder:
        """The decoder of a model whose autoencoder is a tiny one."""
        window = None if networks.any_shape else networks.decode_window
        return cls(networks.decode, networks.model.autoencoder.factor, False, window, networks.stopwatch)

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._output.memory

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._output.forget()

    def __call__(self, x: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
        """What the network makes of ``x`` (B, c, h, w), of which only ``changes`` differ from the last call's.

        Args:
            changes: for each row, in pixels of the picture.
        """
        height, width = size = self._size(x)
        known = self._output.newest is not None and self._input_shape == tuple(x.shape)
        plans = [self._plan(x[row : row + 1], change if known else None) for row, change in enumerate(changes)]
        self._input_shape = tuple(x.shape)
        if all(plan is None for plan in plans):
            self.share = 1.0
            return self._output.replace(self._whole(x))
        everything = (0, 0, width, height)
        output = self._output.changing(
            [target for plan in plans for target in ([everything] if plan is None else [one.writes for one in plan])]
        )
        computed = 0
        for row, plan in enumerate(plans):
            if plan is None:
                output[row] = self._whole(x[row : row + 1])[0]
                computed += math.prod(size)
                continue
            for window in plan:
                self._compute(x[row : row + 1], window, output[row : row + 1])
                computed += math.prod(size_of(window.reads))
        self.share = computed / (math.prod(size) * len(x))
        return output

    def _size(self, x: torch.Tensor) -> Size:
        """Of the latent that belongs to this input."""
        return x.shape[2] // self._input_scale, x.shape[3] // self._input_scale

    def _plan(self, x: torch.Tensor, change: Change) -> list[Window] | None:
        """The windows for a change; None where the whole is faster, or where there are no networks for them yet.

        Args:
            x: (1, c, h, w) the input.
        """
        if change is None:
            return None
        height, width = size = self._size(x)
        pixels = (width * self._factor, height * self._factor)
        sides = [side // self._factor for side in PICTURE_SIDES]
        needed: list[Window] = []
        for rectangle in change:
            writes = scaled(grown(rectangle, self._margin, *pixels), self._factor)
            reads = scaled(grown(rectangle, self._margin + self._halo, *pixels), self._factor)
            needed.append(Window(writes, reads))
        own = [window_around(window.reads, width, height, 1, sides) for window in needed]
        if not self.costs.worth(map(size_of, own), size):
            return None
        found = [self._prepared(x, window.reads, view) for window, view in zip(needed, own, strict=True)]
        windows = [Window(one.writes, view) for one, view in zip(needed, found, strict=True) if view is not None]
        if len(windows) < len(found) or not self.costs.worth((size_of(one.reads) for one in windows), size):
            return None
        return windows

    def _prepared(self, x: torch.Tensor, needed: Rectangle, own: Rectangle) -> Rectangle | None:
        """``own``, or a larger rectangle around ``needed`` that there is a network for; None where there is none."""
        run_window, size = self._run_window, self._size(x)
        if run_window is None:
            return own

        def moved(shape: Shape) -> Rectangle | None:
            return window_of_size(needed, (shape[0], shape[1]), size[1], size[0], 1)

        def runs(shape: Shape) -> bool:
            place = moved(shape)
            return place is not None and run_window(cut(x, place, scale=self._input_scale)) is not None

        found = self._shapes.pick(
            size_of(own), lambda shape: moved(shape) is not None, runs, lambda shape: self.costs.share(shape, size)
        )
        return own if found == size_of(own) else None if found is None else moved(found)

    def _compute(self, x: torch.Tensor, window: Window, output: torch.Tensor) -> None:
        """Run one window of ``x`` (1, c, h, w), and write the inner part of the result into ``output``."""
        found = self._on_window(cut(x, window.reads, scale=self._input_scale), size_of(window.reads), self._size(x))
        inside = cut(output, window.writes, scale=self._output_scale)
        new = cut(found, window.writes, window.reads[:2], self._output_scale)
        if self._output_scale > 1:
            inside.lerp_(new, self._fade(window.writes, self._size(x), inside))
        else:
            inside.copy_(new)

    def _fade(self, target: Rectangle, size: Size, like: torch.Tensor) -> torch.Tensor:
        """(h, w) the weight of the new picture at each pixel of ``target``, on the device of ``like``.

        It is 1 where the picture changed. In the margin around that, the picture only changed because the network sees
        the change from there: the new picture fades in over its width, so that no edge is seen. At the border of the
        whole picture there is no margin.
        """
        left, top, right, bottom = target
        height, width = ((bottom - top) * self._output_scale, (right - left) * self._output_scale)
        down = _ramp(height, top > 0, bottom < size[0], self._margin, like.device, like.dtype)
        across = _ramp(width, left > 0, right < size[1], self._margin, like.device, like.dtype)
        return down[:, None] * across

    def _on_window(self, x: torch.Tensor, shape: Size, whole: Size) -> torch.Tensor:
        """The network's output for a window; where its own network is gone by now, by the one for the whole."""
        started = self.costs.start()
        found = self._run(x) if self._run_window is None else self._run_window(x)
        if found is None:
            self._shapes.lost(shape)
            return self._run(x)
        self.costs.stop(started, shape, whole)
        return found

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        started = self.costs.start()
        output = self._run(x)
        self.costs.stop(started, self._size(x), self._size(x), 1 / len(x))
        return output


@lru_cache(maxsize=256)
def _ramp(
    length: int, from_first: bool, to_last: bool, over: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """(length,) ones, which rise over the first and fall over the last ``over`` pixels where asked for.

    Made and kept on the device: to upload it for each window, the host would have to wait for the device.
    """
    weights = torch.ones(length, device=device, dtype=dtype)
    rising = (torch.arange(over, device=device, dtype=dtype) + 0.5) / over
    if from_first:
        weights[:over] *= rising
    if to_last:
        weights[-over:] *= rising.flip(0)
    return weights
