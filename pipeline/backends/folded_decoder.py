"""Folds the end of a tiny decoder, enlarge, convolve, convolve, into one convolution at half the size.

Where no block lies between the last two convolutions, both and the enlargement before them are one linear map: a 3x3
convolution to the four pixels of each position (sub-pixel convolution, arXiv 1609.05158). At the picture's edge that
map also counts what the inner convolution would give just outside of the picture, where the outer one is padded with
zeros: this is subtracted. For 48 channels it is a sixteenth of the multiplications.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle


def fold_tail(autoencoder: nn.Module) -> None:
    """Fold the decoder's end in place, where ``autoencoder`` is an AutoencoderTiny that ends so; else do nothing."""
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny  # takes seconds: see ``pipeline.models``

    if not isinstance(autoencoder, AutoencoderTiny) or len(autoencoder.decoder.layers) <= 3:
        return
    *before, enlarge, inner, outer = autoencoder.decoder.layers
    if _enlarges(enlarge) and _is_plain(inner) and _is_plain(outer):
        autoencoder.decoder.layers = nn.Sequential(*before, FoldedTail(inner, outer))


class FoldedTail(nn.Module):
    """``outer(inner(enlarge(x)))`` for 3x3 convolutions and nearest-neighbour enlargement by two.

    (B, C, h, w) to (B, C', 2h, 2w).
    """

    weight: Tensor
    bias: Tensor
    inner: Tensor
    outer: Tensor
    middle: Tensor

    def __init__(self, inner: nn.Conv2d, outer: nn.Conv2d) -> None:
        super().__init__()
        first, second = inner.weight.detach(), outer.weight.detach()
        middle = torch.zeros(len(first)) if inner.bias is None else inner.bias.detach()
        bias = second.sum((2, 3)) @ middle + (0 if outer.bias is None else outer.bias.detach())
        self.register_buffer("weight", _folded(first, second))
        self.register_buffer("bias", bias.repeat_interleave(4))
        self.register_buffer("inner", first)
        self.register_buffer("outer", second)
        self.register_buffer("middle", middle)

    def forward(self, x: Tensor) -> Tensor:
        made = pixel_shuffle(conv2d(x, self.weight, self.bias, padding=1), 2)
        made = torch.cat(
            [
                made[:, :, :1] - self._row(x[:, :, :1], 0),
                made[:, :, 1:-1],
                made[:, :, -1:] - self._row(x[:, :, -1:], 2),
            ],
            2,
        )
        left, right = self._column(x[..., :1], 0), self._column(x[..., -1:], 2)
        return torch.cat([made[..., :1] - left, made[..., 1:-1], made[..., -1:] - right], 3)

    def _row(self, edge: Tensor, tap: int) -> Tensor:
        """What the line just outside of the picture adds to the line inside, (B, C', 1, 2w), corners included.

        ``edge`` is (B, C, 1, w); ``tap`` is the outer convolution's that reaches outside: 0 above, 2 below.
        """
        line = pad(edge.repeat_interleave(2, 3), (2, 2))
        outside = conv2d(line, self.inner[:, :, 2 - tap : 3 - tap], self.middle)
        return conv2d(outside, self.outer[:, :, tap : tap + 1])

    def _column(self, edge: Tensor, tap: int) -> Tensor:
        """The same of a column, (B, C', 2h, 1), without corners."""
        line = edge.repeat_interleave(2, 2)
        outside = conv2d(line, self.inner[..., 2 - tap : 3 - tap], self.middle, padding=(1, 0))
        return conv2d(outside, self.outer[..., tap : tap + 1], padding=(1, 0))


def _folded(inner: Tensor, outer: Tensor) -> Tensor:
    """(4 C', C, 3, 3): for each of a position's four pixels, what its neighbours at half the size give to it."""
    made = torch.zeros(len(outer), 2, 2, inner.shape[1], 3, 3)
    for row in range(2):
        for column in range(2):
            for above, left in _TAPS:
                for further, beside in _TAPS:
                    taps = outer[:, :, above + 1, left + 1] @ inner[:, :, further + 1, beside + 1]
                    y, x = (row + above + further) // 2 + 1, (column + left + beside) // 2 + 1
                    made[:, row, column, :, y, x] += taps
    return made.flatten(0, 2)


_TAPS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def _enlarges(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor == 2


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(layer, nn.Conv2d):
        return False
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
