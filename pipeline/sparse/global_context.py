"""What the UNet's windows are told of the whole picture, row by row, and what they add to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from pipeline.sparse.borders import BORDER
from pipeline.sparse.rectangles import Rectangle, Size, Window, cut, scaled, size_of

# Added to the attention score of a token that is not to be seen: its weight becomes 0, and no number format overflows.
HIDDEN = -1e4
# Sets of tensors that are kept to be given again, for each row: most others are of places that nothing is at any more.
_MOST_KEPT = 4


class GlobalContext:
    """What ``ContextHooks`` recorded on whole pictures, by the names that it has for it.

    It is written to in place, so that a compiled network may read it where it lies. The inputs of convolutions have a
    border of zeros, which is what a convolution sees beyond the picture.

    What a window computes is right all over it where it is surrounded. Where it is not, the error of the zeros around
    it grows inwards, and only that is taken over and seen which the window writes.
    """

    def __init__(self, recorded: Mapping[str, torch.Tensor], size: Size) -> None:
        """Args:
        recorded: of B rows.
        size: (height, width) of the latents.
        """
        self._inputs = {name: F.pad(one, (BORDER,) * 4) for name, one in recorded.items() if name.startswith("inputs_")}
        self._whole = {name: one.contiguous() for name, one in recorded.items() if name not in self._inputs}
        self._size = size
        self._count = len(self._whole["affine"])
        self._rows = [{name: one[row : row + 1] for name, one in self._whole.items()} for row in range(self._count)]
        self._levels = {
            name.replace("keys", "seen"): _level(one.shape[2], size)
            for name, one in self._whole.items()
            if name.startswith("keys_")
        }
        self._seen: dict[tuple[int, tuple[Window, ...]], torch.Tensor] = {}

    @property
    def memory(self) -> int:
        """Bytes."""
        return sum(tensor.nbytes for tensor in [*self._whole.values(), *self._inputs.values()])

    def replace(self, row: int, recorded: Mapping[str, torch.Tensor]) -> None:
        """A row has been recorded anew; ``recorded`` is of that row, without the dimension of rows."""
        for name, new in recorded.items():
            if name in self._inputs:
                self._inputs[name][row, :, BORDER:-BORDER, BORDER:-BORDER] = new
            else:
                self._whole[name][row] = new

    def given(self, rows: Sequence[int], windows: Sequence[Window]) -> dict[str, torch.Tensor]:
        """What ``ContextHooks`` gives to windows of one size, but for the borders.

        For a single row, or for all of them in turn, these are the same tensors at each call.

        Args:
            rows: which each window is of.
        """
        if len(rows) == 1:
            known = self._rows[rows[0]]
        elif list(rows) == list(range(self._count)):
            known = self._whole
        else:
            known = {name: one[list(rows)] for name, one in self._whole.items()}
        return known | {name: self._seen_tokens(level, tuple(windows)) for name, level in self._levels.items()}

    def borders(self, rows: Sequence[int], windows: Sequence[Window]) -> dict[str, torch.Tensor]:
        """``border_N`` of these windows; nothing where they are not surrounded."""
        found = {}
        for level, (name, inputs) in enumerate(self._inputs.items()):
            views = [_surrounded(window.reads, level) for window in windows]
            border = torch.stack([cut(inputs[row], view) for row, view in zip(rows, views, strict=True)])
            border[..., BORDER:-BORDER, BORDER:-BORDER] = 0
            found[name.replace("inputs", "border")] = border
        return found

    def add(self, row: int, recorded: Mapping[str, torch.Tensor], window: Window) -> None:
        """Take over what was recorded of a window of a row, without the dimension of rows."""
        for level, (name, inputs) in enumerate(self._inputs.items()):
            cut(inputs[row], _surrounded(window.reads, level))[..., BORDER:-BORDER, BORDER:-BORDER] = recorded[name]
        for seen, level in self._levels.items():
            view, inner = (scaled(one, 2**level) for one in (window.reads, self._right(window)))
            for name in (seen.replace("seen", "keys"), seen.replace("seen", "values")):
                whole = self._whole[name][row].unflatten(1, halved(self._size, level)).permute(0, 3, 1, 2)
                part = recorded[name].unflatten(1, size_of(view)).permute(0, 3, 1, 2)
                cut(whole, inner).copy_(cut(part, inner, view[:2]))

    def _right(self, window: Window) -> Rectangle:
        """Where what a window computes is right."""
        return window.reads if self._inputs else window.writes

    def _seen_tokens(self, level: int, windows: tuple[Window, ...]) -> torch.Tensor:
        """(B, 1, 1, L + l) to add to the scores of the whole's L tokens and the window's l.

        Where a window is right its own tokens are seen, and elsewhere those of the whole. Made on the device: the host
        would have to wait for an upload, and windows that follow a movement are at new places in each frame.
        """
        key = level, windows
        if key not in self._seen:
            if len(self._seen) >= _MOST_KEPT * self._count * len(set(self._levels.values())):
                self._seen = {}
            device = self._whole["affine"].device
            made = []
            for window in windows:
                view, inner = (scaled(one, 2**level) for one in (window.reads, self._right(window)))
                whole = torch.zeros(halved(self._size, level), device=device)
                part = torch.full(size_of(view), HIDDEN, device=device)
                cut(whole, inner).fill_(HIDDEN)
                cut(part, inner, view[:2]).zero_()
                made.append(torch.cat([whole.flatten(), part.flatten()]))
            self._seen[key] = torch.stack(made)[:, None, None]
        return self._seen[key]


def halved(size: Size, level: int) -> Size:
    """(height, width) after ``level`` convolutions of stride 2."""
    return -(-size[0] // 2**level), -(-size[1] // 2**level)


def _surrounded(window: Rectangle, level: int) -> Rectangle:
    """A window and its border at a level, in pixels of a map that has a border itself."""
    left, top, right, bottom = scaled(window, 2**level)
    return left, top, right + 2 * BORDER, bottom + 2 * BORDER


def _level(tokens: int, size: Size) -> int:
    """How often the latent has been halved where a self-attention sees so many tokens."""
    return next(level for level in range(32) if math.prod(halved(size, level)) == tokens)
