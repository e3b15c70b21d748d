"""Group norm of pictures whose channels come last in memory, with the SiLU that mostly follows it, in Triton.

PyTorch's group norm on CUDA brings its input into another layout and back, and its SiLU is one more pass: four kernels
that move memory where two are enough. Here the first adds up each group, in many parts at once, and the second
normalises (Wu and He 2018, arXiv 1803.08494, equation 1).

Triton writes these kernels for the device at their first call. Where Triton is missing, the module cannot be imported.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

# About how many elements one program holds at a time, and how many programs keep a large card busy.
_TILE, _PROGRAMS = 4096, 528
_MOST_PARTS = 64
_PARTS: Any = {"PARTS": _MOST_PARTS}
# Triton writes one kernel for each set of constants, in a quarter of a second. So constants are only what shapes the
# blocks, which leaves a handful of kernels for all layers of a network.
_NUMBERS = ["pixels", "channels", "groups", "size", "parts"]


@triton.jit(do_not_specialize=_NUMBERS)
def _add_up(
    x, sums, pixels, channels, groups, size, parts,
    SIZE: tl.constexpr, GROUPS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Sum and sum of squares of a part of the pixels, for a few groups of one picture, seen from its first pixel."""
    picture, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group = block * GROUPS + tl.arange(0, GROUPS)
    within = tl.arange(0, SIZE)
    channel = group[:, None] * size + within[None, :]
    valid = (group[:, None] < groups) & (within[None, :] < size)
    start = x + picture.to(tl.int64) * pixels * channels
    # Far from zero a sum of squares loses its digits; seen from any value of the group, it does not.
    origin = tl.load(start + group * size, mask=group < groups, other=0.0).to(tl.float32)
    each = tl.cdiv(pixels, parts)
    end = tl.minimum((part + 1) * each, pixels)
    total = tl.zeros([GROUPS, SIZE], tl.float32)
    squares = tl.zeros([GROUPS, SIZE], tl.float32)
    for first in range(part * each, end, PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        there = (pixel[:, None, None] < end) & valid[None, :, :]
        place = pixel[:, None, None] * channels + channel[None, :, :]
        value = tl.load(start + place, mask=there, other=0.0).to(tl.float32)
        value = tl.where(there, value - origin[None, :, None], 0.0)
        total += tl.sum(value, axis=0)
        squares += tl.sum(value * value, axis=0)
    out = sums + ((picture * parts + part) * groups + group) * 2
    tl.store(out, tl.sum(total, axis=1), mask=group < groups)
    tl.store(out + 1, tl.sum(squares, axis=1), mask=group < groups)


@triton.jit(do_not_specialize=[*_NUMBERS, "eps", "silu"])
def _normalise(
    x, weight, bias, sums, out, pixels, channels, groups, size, parts, eps, silu,
    PARTS: tl.constexpr, SIZE: tl.constexpr, GROUPS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Some pixels of a few groups of one picture, normalised."""
    picture, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group = block * GROUPS + tl.arange(0, GROUPS)
    within = tl.arange(0, SIZE)
    channel = group[:, None] * size + within[None, :]
    valid = (group[:, None] < groups) & (within[None, :] < size)
    start = picture.to(tl.int64) * pixels * channels
    origin = tl.load(x + start + group * size, mask=group < groups, other=0.0).to(tl.float32)
    found = tl.arange(0, PARTS)
    place = ((picture * parts + found[:, None]) * groups + group[None, :]) * 2
    counted = (found[:, None] < parts) & (group[None, :] < groups)
    total = tl.sum(tl.load(sums + place, mask=counted, other=0.0), axis=0)
    squares = tl.sum(tl.load(sums + place + 1, mask=counted, other=0.0), axis=0)
    count = pixels * size * 1.0
    mean = total / count
    scale = tl.rsqrt(tl.maximum(squares / count - mean * mean, 0.0) + eps)
    mean += origin
    w = tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32) * scale[:, None]
    b = tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32) - mean[:, None] * w
    pixel = part * PIXELS + tl.arange(0, PIXELS)
    there = (pixel[:, None, None] < pixels) & valid[None, :, :]
    at = start + pixel[:, None, None] * channels + channel[None, :, :]
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * w[None, :, :] + b[None, :, :]
    value = tl.where(silu != 0, value * tl.sigmoid(value), value)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=there)


def group_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float, silu: bool
) -> torch.Tensor:
    """(B, C, H, W), channels last in memory, to the same, normalised in groups of C / ``groups`` channels.

    Args:
        x: float of any kind; the arithmetic is in float32.
        weight, bias: (C,).
        groups: of which C is a multiple.
        eps: added to the variance.
        silu: apply SiLU to the result.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    rows, channels, height, width = x.shape
    pixels, size = height * width, channels // groups
    lanes = triton.next_power_of_2(size)
    # Groups side by side make the memory that is read in one go long enough.
    beside = min(triton.next_power_of_2(groups), max(1, 128 // lanes))
    blocks = triton.cdiv(groups, beside)
    tall = max(1, _TILE // (lanes * beside))
    parts = min(triton.cdiv(pixels, tall), max(1, _PROGRAMS // (rows * blocks)), _MOST_PARTS)
    sums = torch.empty((rows, parts, groups, 2), dtype=torch.float32, device=x.device)
    numbers = pixels, channels, groups, size, parts
    # Triton's types do not know that its constants are given as numbers.
    shape: Any = {"SIZE": lanes, "GROUPS": beside, "PIXELS": tall}
    _add_up[(rows, parts, blocks)](x, sums, *numbers, **shape)
    _normalise[(rows, triton.cdiv(pixels, tall), blocks)](
        x, weight, bias, sums, out, *numbers, eps, int(silu), **shape, **_PARTS
    )
    return out
