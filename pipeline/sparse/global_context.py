"""What a window of a UNet is told of the whole picture, row by row, and what it adds to that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pipeline.sparse.rectangles import Rectangle, cut, scaled, shape_of

# Added to the score of a token that is not to be seen: nothing is left of it, and no number format overflows.
HIDDEN = -1e4

Size = tuple[int, int]
# A window: what of it counts, which may be nothing (``right`` is ``left``), and what is looked at; in pixels of the
# latent.
Place = tuple[Rectangle, Rectangle]


class GlobalContext:
    """What a ``ContextHooks`` recorded of whole pictures: the affine of all norms, keys and values of each self-attention.

    It is written to in place, so that a compiled network may read it where it lies.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], size: Size) -> None:
        """Args:
        tensors: as ``ContextHooks.recorded`` gives them for B rows.
        size: (height, width) of the latents.
        """
        self._tensors = [tensor.contiguous() for tensor in tensors]
        self._size = size
        count = len(self._tensors[0])
        self._rows = [[tensor[number : number + 1] for tensor in self._tensors] for number in range(count)]
        self._levels = [_level(keys.shape[2], size) for keys in self._tensors[1::2]]
        self._biases: dict[tuple[int, tuple[Place, ...]], torch.Tensor] = {}

    @property
    def memory(self) -> int:
        """Bytes."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def replace(self, number: int, tensors: Sequence[torch.Tensor]) -> None:
        """One row has been recorded anew; ``tensors`` have no rows."""
        for kept, new in zip(self._rows[number], tensors, strict=True):
            kept[0] = new

    def given(self, numbers: Sequence[int], places: Sequence[Place]) -> list[torch.Tensor]:
        """``ContextHooks.given`` for windows of one shape: the same tensors for the same arguments.

        Args:
            numbers: of one row, or of all.
            places: one window for each of these rows.
        """
        tensors = self._tensors if len(numbers) == len(self._rows) else self._rows[numbers[0]]
        affine, *pairs = tensors
        given = [affine]
        for keys, values, level in zip(pairs[::2], pairs[1::2], self._levels, strict=True):
            given += [keys, values, self._bias(level, tuple(places))]
        return given

    def add(self, number: int, new: Sequence[torch.Tensor], place: Place) -> None:
        """Keys and values (heads, l, size) of a window's tokens are those of the whole from now on, where it counts."""
        target, view = place
        levels = [level for level in self._levels for _ in (0, 1)]
        for kept, part, level in zip(self._rows[number][1:], new, levels, strict=True):
            grid, small = halved(self._size, level), halved(shape_of(view), level)
            inner = scaled(target, 2**level)
            whole = kept[0].unflatten(1, grid).permute(0, 3, 1, 2)
            piece = part.unflatten(1, small).permute(0, 3, 1, 2)
            cut(whole, inner).copy_(cut(piece, inner, (view[0] >> level, view[1] >> level)))

    def _bias(self, level: int, places: tuple[Place, ...]) -> torch.Tensor:
        """(B, 1, 1, L + l) to add to scores: where it counts the part's tokens are seen, elsewhere the whole's."""
        key = level, places
        if key not in self._biases:
            if len(self._biases) >= 4 * len(self._rows) * len(set(self._levels)):
                self._biases = {}  # things have moved on
            biases = []
            for target, view in places:
                inner = scaled(target, 2**level)
                whole = torch.zeros(1, 1, *halved(self._size, level))
                part = torch.full((1, 1, *halved(shape_of(view), level)), HIDDEN)
                cut(whole, inner).fill_(HIDDEN)
                cut(part, inner, (view[0] >> level, view[1] >> level)).zero_()
                biases.append(torch.cat([whole.flatten(), part.flatten()]))
            bias = torch.stack(biases)[:, None, None]
            self._biases[key] = bias.to(self._tensors[0].device)
        return self._biases[key]


def halved(size: Size, level: int) -> Size:
    """(height, width) after ``level`` convolutions of stride 2."""
    return -(-size[0] // 2**level), -(-size[1] // 2**level)


def _level(tokens: int, size: Size) -> int:
    """How often the latent has been halved where a self-attention sees so many tokens."""
    return next(level for level in range(32) if math.prod(halved(size, level)) == tokens)
