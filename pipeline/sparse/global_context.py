"""What the UNet's windows are told of the whole picture, row by row, and what they add to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pipeline.sparse.rectangles import Size, Window, cut, scaled, size_of

# Added to the attention score of a token that is not to be seen: its weight becomes 0, and no number format overflows.
HIDDEN = -1e4


class GlobalContext:
    """What ``ContextHooks`` recorded on whole pictures: the norms' affine, each self-attention's keys and values.

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
        self._biases: dict[tuple[int, tuple[Window, ...]], torch.Tensor] = {}

    @property
    def memory(self) -> int:
        """Bytes."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def replace(self, number: int, tensors: Sequence[torch.Tensor]) -> None:
        """Row ``number`` has been recorded anew; ``tensors`` are those of that row, without the dimension of rows."""
        for kept, new in zip(self._rows[number], tensors, strict=True):
            kept[0] = new

    def given(self, numbers: Sequence[int], windows: Sequence[Window]) -> list[torch.Tensor]:
        """``ContextHooks.given`` for windows of one size: the same tensors for the same arguments.

        Args:
            numbers: of one row, or of all.
            windows: one for each of these rows.
        """
        tensors = self._tensors if len(numbers) == len(self._rows) else self._rows[numbers[0]]
        affine, *pairs = tensors
        given = [affine]
        for keys, values, level in zip(pairs[::2], pairs[1::2], self._levels, strict=True):
            given += [keys, values, self._bias(level, tuple(windows))]
        return given

    def add(self, number: int, new: Sequence[torch.Tensor], window: Window) -> None:
        """Take over a window's keys and values (heads, l, size) for the tokens of row ``number`` that it writes."""
        levels = [level for level in self._levels for _ in (0, 1)]
        for kept, part, level in zip(self._rows[number][1:], new, levels, strict=True):
            grid, small = halved(self._size, level), halved(size_of(window.reads), level)
            inner = scaled(window.writes, 2**level)
            whole = kept[0].unflatten(1, grid).permute(0, 3, 1, 2)
            piece = part.unflatten(1, small).permute(0, 3, 1, 2)
            cut(whole, inner).copy_(cut(piece, inner, (window.reads[0] >> level, window.reads[1] >> level)))

    def _bias(self, level: int, windows: tuple[Window, ...]) -> torch.Tensor:
        """(B, 1, 1, L + l) to add to the scores of the whole's L tokens and the window's l.

        Inside what the window writes its own tokens are seen, and elsewhere those of the whole. Made on the device: the
        host would have to wait for an upload, and windows that follow a movement are at new places in each frame.
        """
        key = level, windows
        if key not in self._biases:
            if len(self._biases) >= 4 * len(self._rows) * len(set(self._levels)):
                self._biases = {}  # most of them are of places that nothing is at any more
            device = self._tensors[0].device
            biases = []
            for writes, reads in windows:
                inner = scaled(writes, 2**level)
                whole = torch.zeros(1, 1, *halved(self._size, level), device=device)
                part = torch.full((1, 1, *halved(size_of(reads), level)), HIDDEN, device=device)
                cut(whole, inner).fill_(HIDDEN)
                cut(part, inner, (reads[0] >> level, reads[1] >> level)).zero_()
                biases.append(torch.cat([whole.flatten(), part.flatten()]))
            self._biases[key] = torch.stack(biases)[:, None, None]
        return self._biases[key]


def halved(size: Size, level: int) -> Size:
    """(height, width) after ``level`` convolutions of stride 2."""
    return -(-size[0] // 2**level), -(-size[1] // 2**level)


def _level(tokens: int, size: Size) -> int:
    """How often the latent has been halved where a self-attention sees so many tokens."""
    return next(level for level in range(32) if math.prod(halved(size, level)) == tokens)
