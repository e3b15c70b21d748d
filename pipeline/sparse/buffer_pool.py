"""What a network gave last, of which parts are written anew while others still hold what it gave before."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.sparse.rectangles import Rectangle, cut

# Pieces of memory that take turns: what is shown, what waits to be shown, what is being made, and one more.
MOST = 4
# A piece that has missed more rectangles than this is copied whole.
MISSED = 32


class _Piece:
    """Memory of one picture, and where it is behind the newest one; None for everywhere."""

    def __init__(self, like: torch.Tensor) -> None:
        self.array = np.empty(tuple(like.shape), np.float32)
        self.missed: list[Rectangle] | None = None
        self._references = sys.getrefcount(self.array)

    @property
    def free(self) -> bool:
        """Whether no tensor lies in this memory any more, nor a view of one: a storage refers to its array."""
        return sys.getrefcount(self.array) <= self._references

    def behind(self, rectangles: Sequence[Rectangle]) -> None:
        if self.missed is not None:
            self.missed.extend(rectangles)
            if len(self.missed) > MISSED:
                self.missed = None


class BufferAgePool:
    """The newest of maps (B, C, H, W), and memory for the next ones.

    What was given is with others, and must stay as it is: so each change is made in another piece of memory. As with
    the buffers of a screen (EGL's "buffer age"), only what a piece has missed is copied into it, and a piece is taken
    again once nobody holds anything in it. A copy of the whole would take longer than a small window's network.

    Attributes:
        newest: what was given last; None before.
    """

    def __init__(self, scale: int = 1) -> None:
        """``scale``: pixels of the maps in a unit of the rectangles."""
        self.newest: torch.Tensor | None = None
        self._scale = scale
        self._pieces: list[_Piece] = []
        self._current: _Piece | None = None  # the piece that the newest lies in; None where it is somebody else's

    @property
    def memory(self) -> int:
        """Bytes."""
        mine = sum(piece.array.nbytes for piece in self._pieces)
        return mine + (self.newest.nbytes if self.newest is not None and self._current is None else 0)

    def forget(self) -> None:
        self.newest, self._current, self._pieces = None, None, []

    def replace(self, maps: torch.Tensor) -> torch.Tensor:
        """All of it is new; ``maps`` must not be written to by others."""
        if self.newest is not None and self.newest.shape != maps.shape:
            self.forget()
        for piece in self._pieces:
            piece.missed = None
        self.newest, self._current = maps, None
        return maps

    def changing(self, rectangles: Sequence[Rectangle]) -> torch.Tensor:
        """What was given last, to be written to inside these rectangles (of all rows), and given now.

        What was given before stays as it is for as long as somebody holds it.
        """
        assert self.newest is not None
        before = self.newest
        if before.device.type != "cpu" or before.dtype != torch.float32:
            self.newest = before.clone()  # a GPU's memory is copied, and taken again, at no cost to speak of
            return self.newest
        piece = next((one for one in self._pieces if one is not self._current and one.free), None)
        if piece is None:
            piece = _Piece(before)
            if len(self._pieces) < MOST:
                self._pieces.append(piece)
        maps = torch.from_numpy(piece.array)
        if piece.missed is None:
            maps.copy_(before)
        else:
            for rectangle in piece.missed:
                cut(maps, rectangle, scale=self._scale).copy_(cut(before, rectangle, scale=self._scale))
        piece.missed = []
        for other in self._pieces:
            if other is not piece:
                other.behind(rectangles)
        self.newest, self._current = maps, piece
        return maps
