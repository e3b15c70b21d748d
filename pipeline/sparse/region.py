"""Where pictures changed, and which tiles of a map that touches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

# Side of a block in pixels: the finest change that is told apart. One latent pixel of the common autoencoders.
BLOCK = 8


class Region:
    """The changed blocks of a batch of pictures.

    Attributes:
        blocks: (rows, ceil(H / 8), ceil(W / 8)) bool, one map a picture.
        size: (H, W) of the pictures in pixels.
    """

    def __init__(self, blocks: np.ndarray, size: tuple[int, int]) -> None:
        height, width = size
        expected = (-(-height // BLOCK), -(-width // BLOCK))
        if blocks.dtype != bool or blocks.ndim != 3 or blocks.shape[1:] != expected:
            raise ValueError(
                f"blocks are {blocks.dtype} {blocks.shape}; for {width}x{height} they must be bool (rows, {expected})"
            )
        self.blocks = blocks
        self.size = size
        self._sums = np.zeros((len(blocks), expected[0] + 1, expected[1] + 1), np.int32)
        self._sums[:, 1:, 1:] = blocks.cumsum(1, dtype=np.int32).cumsum(2, dtype=np.int32)
        self._tiles: dict[tuple[int, ...], TileSet] = {}

    @property
    def rows(self) -> int:
        """Pictures in the batch."""
        return len(self.blocks)

    @property
    def empty(self) -> bool:
        """Whether nothing changed anywhere."""
        return not self.blocks.any()

    @property
    def area(self) -> float:
        """Share of all blocks that changed, 0..1."""
        return float(self.blocks.mean())

    def tiles(self, height: int, width: int, scale: int, tile: int, margin: int, device: torch.device) -> TileSet:
        """The tiles of a (height, width) map that lie within ``margin`` pixels of a change; made once and kept.

        Args:
            scale: picture pixels that a pixel of the map spans on each side.
            tile: side of a tile in pixels of the map.
            margin: in pixels of the picture.
        """
        key = (height, width, scale, tile, margin)
        if key not in self._tiles:
            top, bottom = self._span(height, scale, tile, margin, self.blocks.shape[1])
            left, right = self._span(width, scale, tile, margin, self.blocks.shape[2])
            sums = self._sums
            count = sums[:, bottom][:, :, right] - sums[:, top][:, :, right]
            count -= sums[:, bottom][:, :, left] - sums[:, top][:, :, left]
            self._tiles[key] = TileSet(np.argwhere(count > 0), (self.rows, height, width), tile, device)
        return self._tiles[key]

    @staticmethod
    def _span(side: int, scale: int, tile: int, margin: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
        """First and past-last block that each tile along one side touches."""
        start = np.arange(-(-side // tile)) * (tile * scale)
        first = (start - margin) // BLOCK
        end = -(-(start + tile * scale + margin) // BLOCK)
        return first.clip(0, blocks), end.clip(0, blocks)


class Window:
    """What every tile of a set reads: pixel rows of a map, and which of them lie outside it.

    Attributes:
        index: (tiles * side * side,) int64, rows of the map flattened to (rows * H * W, C).
        inside: (tiles, 1, side, side) bool, or None where every pixel read lies inside.
        side: in pixels.
    """

    __slots__ = ("index", "inside", "side")

    def __init__(self, index: torch.Tensor, inside: torch.Tensor | None, side: int) -> None:
        self.index, self.inside, self.side = index, inside, side


class TileSet:
    """Active tiles of a (rows, H, W) map, and the index lists to read and write them.

    Attributes:
        count: number of active tiles.
        share: share of the map that they cover, 0..1.
        row: (count,) int64, the row that each tile lies in.
    """

    def __init__(self, grid: np.ndarray, shape: tuple[int, int, int], tile: int, device: torch.device) -> None:
        """``grid`` is (count, 3): row, and the tile's place in the grid of tiles, in this order of rows."""
        self.shape, self.tile, self.device = shape, tile, device
        self.count = len(grid)
        self._grid = grid
        rows, height, width = shape
        self._across = (-(-height // tile), -(-width // tile))
        self.share = self.count / (rows * self._across[0] * self._across[1])
        self._windows: dict[tuple[int, ...], Window] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        self._chunks: dict[int, list[TileSet]] = {}

    @property
    def row(self) -> torch.Tensor:
        return self._tensor("row", lambda: self._grid[:, 0])

    @property
    def row_counts(self) -> np.ndarray:
        """(rows,) number of active tiles in each row."""
        return np.bincount(self._grid[:, 0], minlength=self.shape[0])

    @property
    def position(self) -> torch.Tensor:
        """(count,) int64: index of each tile among all (rows * tiles a row)."""
        row, down, across = self._grid.T
        return self._tensor("position", lambda: (row * self._across[0] + down) * self._across[1] + across)

    @property
    def tiles_a_row(self) -> int:
        """Tiles of one row, active or not."""
        return self._across[0] * self._across[1]

    def chunks(self, largest: int) -> list[TileSet]:
        """The same tiles in sets of at most ``largest``: what is made of few tiles stays in the processor's cache."""
        if self.count <= largest:
            return [self]
        if largest not in self._chunks:
            starts = range(0, self.count, largest)
            parts = [self._grid[start : start + largest] for start in starts]
            self._chunks[largest] = [TileSet(part, self.shape, self.tile, self.device) for part in parts]
        return self._chunks[largest]

    def window(
        self,
        side: int,
        offset: int = 0,
        stride: int = 1,
        size: tuple[int, int] | None = None,
        source: tuple[int, int] | None = None,
    ) -> Window:
        """What each tile reads: a square of ``side`` pixels, from ``stride`` times the tile's corner less ``offset``.

        Args:
            size: (H, W) of the map that is read, by default that of the tiles' own map.
            source: (h, w) that this map has in memory, where it is read as if enlarged to ``size`` by nearest pixels.
        """
        size = size or self.shape[1:]
        key = (side, offset, stride, *size, *(source or ()))
        if key not in self._windows:
            self._windows[key] = self._make_window(side, offset, stride, size, source or size)
        return self._windows[key]

    def _make_window(
        self, side: int, offset: int, stride: int, size: tuple[int, int], source: tuple[int, int]
    ) -> Window:
        start = self._grid[:, 1:] * (self.tile * stride) - offset
        y, x = start[:, :1] + np.arange(side), start[:, 1:] + np.arange(side)
        inside_y, inside_x = (y >= 0) & (y < size[0]), (x >= 0) & (x < size[1])
        y, x = y.clip(0, size[0] - 1), x.clip(0, size[1] - 1)
        if source != size:
            y, x = y * source[0] // size[0], x * source[1] // size[1]
        index = ((self._grid[:, :1] * source[0] + y) * source[1])[:, :, None] + x[:, None, :]
        inside = None
        if not (inside_y.all() and inside_x.all()):
            inside = self._send((inside_y[:, :, None] & inside_x[:, None, :])[:, None])
        return Window(self._send(index.reshape(-1)), inside, side)

    def gather(self, source: torch.Tensor, window: Window, zero_outside: bool = True) -> torch.Tensor:
        """(count, C, side, side) channels-last tiles of ``source`` (rows, C, h, w); outside of it they are zero."""
        taken = flat(channels_last(source)).index_select(0, window.index)
        tiles = taken.view(self.count, window.side, window.side, -1).permute(0, 3, 1, 2)
        if zero_outside and window.inside is not None:
            tiles.mul_(window.inside)
        return tiles

    def scatter(self, target: torch.Tensor, tiles: torch.Tensor) -> None:
        """Write (count, C, tile, tile) ``tiles`` into ``target`` (rows, C, H, W) in place; what juts out is dropped."""
        rows, height, width = self.shape
        side, channels = self.tile, target.shape[1]
        lines = tiles.permute(0, 2, 3, 1)
        if height % side == 0 and width % side == 0:
            # A line of a tile is contiguous in the map as well: whole lines are copied, not pixels.
            index = self._tensor("lines", self._line_index)
            whole = flat(target).view(rows * height * (width // side), side * channels)
            whole.index_copy_(0, index, lines.reshape(-1, side * channels))
            return
        window = self.window(side)
        values = lines.reshape(-1, channels)
        index = window.index
        if window.inside is not None:
            kept = window.inside.reshape(-1)
            index, values = index[kept], values[kept]
        flat(target).index_copy_(0, index, values)

    def _line_index(self) -> np.ndarray:
        _, height, width = self.shape
        row, y, x = self._grid.T
        first = (row * height + y * self.tile) * (width // self.tile) + x
        return (first[:, None] + np.arange(self.tile) * (width // self.tile)).reshape(-1)

    def _tensor(self, name: str, make: Callable[[], np.ndarray]) -> torch.Tensor:
        if name not in self._tensors:
            self._tensors[name] = self._send(np.ascontiguousarray(make()))
        return self._tensors[name]

    def _send(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    """``maps`` with the channels innermost in memory, as ``flat`` needs them; itself where it is so already."""
    return maps.contiguous(memory_format=torch.channels_last)


def flat(maps: torch.Tensor) -> torch.Tensor:
    """(rows, C, H, W) channels-last to a (rows * H * W, C) view of the same memory."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


@lru_cache(maxsize=32)
def everything(rows: int, height: int, width: int) -> Region:
    """The region in which every block of ``rows`` pictures changed."""
    return Region(np.ones((rows, -(-height // BLOCK), -(-width // BLOCK)), bool), (height, width))
