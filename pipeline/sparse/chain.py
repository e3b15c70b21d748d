"""A plain sequence of layers, run on active tiles: what an ``AutoencoderTiny`` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.sparse.region import Region, TileSet, channels_last

# Above this share of active tiles a unit is computed densely: gathering, halos and scattering eat the rest.
DENSE_SHARE = 0.4
# Bytes of one map of the tiles that a CPU works on at once.
CHUNK_BYTES = 1 << 20


class Unsupported(Exception):
    """A module is not of the kind that can be run sparsely. The message is one sentence: what, and why."""


@dataclass(slots=True)
class _Stage:
    """What the tile of one convolution's input covers, counted back from the unit's output."""

    side: int
    offset: int
    stride: int


class Unit:
    """Layers that are run in one go on each tile, with a halo, so that nothing between them is kept or copied.

    A residual block is a unit, and so is a run of convolutions between two blocks, from an enlargement on, or up to a
    convolution of stride 2.

    Attributes:
        layers: the modules, in order.
        scale: picture pixels that a pixel of the unit's output spans.
        radius: picture pixels by which a change spreads in the unit.
        cache: (rows, C, H, W) output of the last call, channels-last; None before the first.
    """

    def __init__(self, layers: list[nn.Module], scale_in: int) -> None:
        self.layers = layers
        self.enlarges = isinstance(layers[0], nn.Upsample)
        self._convolutions = [conv for layer in layers for conv in convolutions(layer)]
        scale = scale_in // 2 if self.enlarges else scale_in
        self.radius = 0
        for convolution in self._convolutions:
            self.radius += scale * (convolution.kernel_size[0] // 2)
            scale *= convolution.stride[0]
        self.scale = scale
        self.cache: torch.Tensor | None = None

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        """The layers as they are; the output is kept."""
        for layer in self.layers:
            x = layer(x)
        self.cache = channels_last(x)
        return self.cache

    def sparse(self, x: torch.Tensor, region: Region, margin: int) -> tuple[torch.Tensor, float]:
        """Bring the cache up to date within ``margin`` picture pixels of ``region``; it, and the share computed."""
        assert self.cache is not None
        _, _, height, width = self.cache.shape
        tiles = region.tiles(height, width, self.scale, tile_side(height, width), margin, x.device)
        if tiles.share > DENSE_SHARE:
            return self.dense(x), 1.0
        for chunk in tiles.chunks(self._chunk(x, tiles.tile)) if tiles.count else ():
            chunk.scatter(self.cache, self._run(x, chunk))
        return self.cache, tiles.share

    def _run(self, x: torch.Tensor, tiles: TileSet) -> torch.Tensor:
        source = (x.shape[2], x.shape[3])
        size = (2 * source[0], 2 * source[1]) if self.enlarges else source
        stages = self._stages(tiles.tile)
        first = stages[0]
        y = tiles.gather(x, tiles.window(first.side, first.offset, first.stride, size, source))
        number, sizes = 0, self._sizes(size)
        for layer in self.layers[1 if self.enlarges else 0 :]:
            inner = convolutions(layer)
            if not inner:
                y = layer(y)
                continue
            entered = y
            for position, convolution in enumerate(inner):
                if number:
                    stage = stages[number]
                    inside = tiles.window(stage.side, stage.offset, stage.stride, sizes[number]).inside
                    y = y if inside is None else y * inside
                    if position == 0:
                        entered = y
                y = F.conv2d(y, convolution.weight, convolution.bias, convolution.stride)
                if len(inner) > 1 and position < len(inner) - 1:
                    y = F.relu_(y)
                number += 1
            if len(inner) > 1:
                kept = _crop(entered, len(inner))
                y = F.relu_(y.add_(_skip(layer, kept)))
        return y

    def _chunk(self, x: torch.Tensor, tile: int) -> int:
        """Tiles to run at once: all on an accelerator; on a CPU as many as leave its cache room for two maps."""
        if x.device.type != "cpu":
            return 2**31
        first = self._stages(tile)[0]
        channels = max(convolution.out_channels for convolution in self._convolutions)
        return max(4, CHUNK_BYTES // (first.side**2 * channels * x.element_size()))

    def _stages(self, tile: int) -> list[_Stage]:
        stages = []
        side, offset, stride = tile, 0, 1
        for convolution in reversed(self._convolutions):
            step, reach = convolution.stride[0], convolution.kernel_size[0] // 2
            side, offset, stride = (side - 1) * step + 1 + 2 * reach, offset * step + reach, stride * step
            stages.append(_Stage(side, offset, stride))
        return stages[::-1]

    def _sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(H, W) of each convolution's input."""
        sizes = []
        for convolution in self._convolutions:
            sizes.append(size)
            step = convolution.stride[0]
            size = (-(-size[0] // step), -(-size[1] // step))
        return sizes


class Chain:
    """A ``Sequential`` of convolutions, blocks and enlargements that computes only what changed.

    ``inject`` and ``eject`` are exact inverses. Set ``region`` before a call; None stands for a dense call.

    Attributes:
        region: what changed in the input since the last call.
        shares: share of active tiles of each unit at the last call.
    """

    def __init__(self, layers: nn.Sequential, scale: int, margin: int | None) -> None:
        """Args:
            layers: the modules; of an ``AutoencoderTiny``'s encoder or decoder.
            scale: picture pixels that a pixel of the input spans.
            margin: picture pixels around a change that are computed anew in every layer. None lets the change spread
                from layer to layer as far as it does, which is exact.

        Raises:
            Unsupported: a layer of another kind.
        """
        self._layers = layers
        self._margin = margin
        self._units = [Unit(group, scale) for group, scale in _grouped(layers, scale)]
        self._input_shape: tuple[Any, ...] = ()
        self.region: Region | None = None
        self.shares: list[float] = []

    @property
    def injected(self) -> bool:
        """Whether the module's calls come here."""
        return getattr(self._layers.__dict__.get("forward"), "__self__", None) is self

    def inject(self) -> None:
        """Take the module's calls. Another chain that has them is ejected."""
        taken = getattr(self._layers.__dict__.get("forward"), "__self__", None)
        if isinstance(taken, Chain) and taken is not self:
            taken.eject()
        self._layers.__dict__["forward"] = self.forward

    def eject(self) -> None:
        """Give the module its own calls back, and drop what is cached."""
        if self.injected:
            del self._layers.__dict__["forward"]
        self.forget()

    def forget(self) -> None:
        """Drop what is cached: the next call is dense."""
        self._input_shape = ()
        for unit in self._units:
            unit.cache = None

    @property
    def memory(self) -> int:
        """Bytes of the caches."""
        return sum(unit.cache.nbytes for unit in self._units if unit.cache is not None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, C, H, W) to what the layers make of it, up to what ``margin`` leaves out."""
        kind = (*x.shape, x.dtype, x.device)
        region, self._input_shape, kind_before = self.region, kind, self._input_shape
        if region is None or region.rows != len(x) or kind != kind_before:
            self.shares = [1.0] * len(self._units)
            for unit in self._units:
                x = unit.dense(x)
        else:
            self.shares = []
            margin = self._margin or 0
            for unit in self._units:
                if self._margin is None:
                    margin += unit.radius
                x, share = unit.sparse(x, region, margin)
                self.shares.append(share)
        # A copy, since the cache goes on changing.
        return x.clone()


def tile_side(height: int, width: int) -> int:
    """Side of a tile in pixels of a map: larger where maps are, since a halo weighs less on a larger tile."""
    return 16 if min(height, width) >= 192 else 8


def convolutions(layer: Any) -> list[nn.Conv2d]:
    """The convolutions of a layer in the order of their use; a skip's is not among them."""
    if isinstance(layer, nn.Conv2d):
        return [layer]
    if hasattr(layer, "conv") and hasattr(layer, "skip"):
        return [inner for inner in layer.conv if isinstance(inner, nn.Conv2d)]
    return []


def _skip(block: Any, x: torch.Tensor) -> torch.Tensor:
    return block.skip(x)


def _crop(x: torch.Tensor, border: int) -> torch.Tensor:
    return x[:, :, border:-border, border:-border]


def _grouped(layers: nn.Sequential, scale: int) -> list[tuple[list[nn.Module], int]]:
    """Split into units; each with the scale of its input."""
    groups: list[tuple[list[nn.Module], int]] = []
    group: list[nn.Module] = []
    start = scale

    def close() -> None:
        nonlocal group, start
        if group:
            groups.append((group, start))
        group, start = [], scale

    for layer in layers:
        _check(layer)
        is_block = len(convolutions(layer)) > 1
        if is_block or isinstance(layer, nn.Upsample):
            close()
        group.append(layer)
        if isinstance(layer, nn.Upsample):
            scale //= 2
        strides = [conv.stride[0] for conv in convolutions(layer)]
        if 2 in strides:
            scale *= 2
        if is_block or 2 in strides:
            close()
    close()
    for group, _ in groups:
        if not any(convolutions(layer) for layer in group):
            raise Unsupported(f"layers {[type(layer).__name__ for layer in group]} have no convolution among them")
    return groups


def _check(layer: nn.Module) -> None:
    inner = convolutions(layer)
    for conv in inner:
        if (
            conv.kernel_size not in ((3, 3), (1, 1))
            or conv.padding != (conv.kernel_size[0] // 2,) * 2
            or conv.stride not in ((1, 1), (2, 2))
            or conv.dilation != (1, 1)
            or conv.groups != 1
            or conv.padding_mode != "zeros"
        ):
            raise Unsupported(f"a convolution is not of a kind that can be run on tiles: {conv}")
    if len(inner) > 1:
        _check_block(layer)
    elif not inner and not isinstance(layer, (nn.ReLU, nn.Upsample)):
        raise Unsupported(f"a layer of kind {type(layer).__name__} cannot be run on tiles")
    if isinstance(layer, nn.Upsample) and (layer.mode != "nearest" or layer.scale_factor not in (2, 2.0)):
        raise Unsupported("only enlargement by 2 to the nearest pixel can be run on tiles")


def _check_block(block: Any) -> None:
    between = [inner for inner in block.conv if not isinstance(inner, nn.Conv2d)]
    plain = all(isinstance(inner, nn.ReLU) for inner in [*between, block.fuse]) and len(between) == 2
    sizes = {conv.kernel_size for conv in convolutions(block)} | {conv.stride for conv in convolutions(block)}
    if not plain or sizes != {(3, 3), (1, 1)} or len(convolutions(block)) != 3:
        raise Unsupported(
            "a residual block of another build than AutoencoderTinyBlock with ReLU cannot be run on tiles"
        )
