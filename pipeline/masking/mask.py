"""What is done to a mask after the network: steadied from frame to frame, moved outwards, softened.

Pure functions on tensors. All of it is done in the size of the network's mask, as that is where its edges are, and on
the large side of a picture it would take several times as long. Nothing here waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

# Change of the input, 0..1: up to the first it is taken for noise, from the second on the mask follows at once.
_NOISE, _CHANGE = 3 / 255, 12 / 255
_AROUND = 4  # pixels of the mask that noise is averaged over
# The memory's share at full smoothing. Below 1, so that every scene settles on what the network says of it now.
_LARGEST_SHARE = 0.95
# What is below and above these is taken for none and all, so that no veil is left of a far background.
_NONE, _ALL = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one frame.

    Attributes:
        mask: (1, 1, h, w) the mask so far.
        seen: (1, 3, h / 4, w / 4) the input in the same mixture.
    """

    mask: torch.Tensor
    seen: torch.Tensor


def steadied(
    masks: torch.Tensor, squares: torch.Tensor, memory: Memory | None, smoothing: float
) -> tuple[torch.Tensor, Memory]:
    """Masks of successive frames, each mixed with the one before where the input is still what it was.

    The input is remembered with the very same weights as the mask, so that slow changes add up and are noticed.

    Args:
        masks: (F, 1, h, w), in the order of the frames.
        squares: (F, 3, h, w) the frames in the size of the masks.
        memory: what the frame before left; None where there is none.
        smoothing: 0 (none) to 1.

    Returns:
        The masks, and the memory for the next frame.
    """
    steady = []
    for mask, seen in zip(masks.split(1), F.avg_pool2d(squares, _AROUND).split(1), strict=True):
        if memory is not None and smoothing > 0:
            changed = (seen - memory.seen).abs().amax(1, keepdim=True)
            holds = ((_CHANGE - changed) / (_CHANGE - _NOISE)).clamp(0, 1) * (_LARGEST_SHARE * smoothing)
            seen = torch.lerp(seen, memory.seen, holds)
            mask = torch.lerp(mask, memory.mask, resized(holds, mask))
        memory = Memory(mask, seen)
        steady.append(mask)
    assert memory is not None, "there is at least one frame"
    return torch.cat(steady), memory


def cleaned(masks: torch.Tensor) -> torch.Tensor:
    """Masks without the network's doubts: what is nearly 0 or 1 is 0 or 1."""
    return ((masks - _NONE) / (_ALL - _NONE)).clamp(0, 1)


def grown(masks: torch.Tensor, across: float, down: float) -> torch.Tensor:
    """Masks (F, 1, h, w) whose outline lies so many pixels of theirs farther out; below 0, farther in."""
    if across < 0 or down < 0:
        return 1 - grown(1 - masks, -across, -down)
    for dim, radius in ((3, across), (2, down)):
        whole, part = math.floor(radius), radius % 1
        inner = _largest_around(masks, whole, dim)
        masks = torch.lerp(inner, _largest_around(masks, whole + 1, dim), part) if part else inner
    return masks


def feathered(masks: torch.Tensor, across: float, down: float) -> torch.Tensor:
    """Masks (F, 1, h, w) whose outline goes from 0 to 1 over so many pixels of theirs."""
    return _mean_along(_mean_along(masks, across, 3), down, 2)


def blurred(planes: torch.Tensor, deviation: float) -> torch.Tensor:
    """(F, C, H, W) blurred by about a Gaussian with this standard deviation in pixels: three means in a row.

    A strong blur is made of a smaller picture: what that leaves out, the blur would not let through.
    """
    small, scale = planes, max(1, int(deviation / 2))
    if scale > 1:
        small = F.avg_pool2d(planes, scale, ceil_mode=True, count_include_pad=False)
    # A mean over a width w has the variance w^2 / 12, and the variances of three add up.
    width = 2 * deviation / scale
    for dim in (3, 3, 3, 2, 2, 2):
        small = _mean_along(small, width, dim)
    if scale == 1:
        return small
    # The last small pixel may stand for more than there is: what is enlarged keeps the scale, and is then cut.
    large = F.interpolate(small, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return large[..., : planes.shape[2], : planes.shape[3]]


def resized(planes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(F, C, h, w) in the height and width of ``like``."""
    if planes.shape[-2:] == like.shape[-2:]:
        return planes
    return F.interpolate(planes, like.shape[-2:], mode="bilinear", align_corners=False)


def _mean_along(planes: torch.Tensor, width: float, dim: int) -> torch.Tensor:
    """The mean along ``dim`` over ``width`` pixels around each; beyond the edge is what is at it."""
    if width <= 1:
        return planes
    side, half = planes.shape[dim], (width - 1) / 2
    whole, part = math.floor(half), half % 1
    # One more on either side for the pixels that are only partly within, and a zero for the sum of nothing.
    around = whole + 1
    padded = F.pad(planes, (around, around, 0, 0) if dim == 3 else (0, 0, around, around), mode="replicate")
    sums = F.pad(padded.cumsum(dim), (1, 0) if dim == 3 else (0, 0, 1, 0))

    def total(radius: int) -> torch.Tensor:
        first = around - radius
        return sums.narrow(dim, first + 2 * radius + 1, side) - sums.narrow(dim, first, side)

    inner = total(whole)
    return (torch.lerp(inner, total(whole + 1), part) if part else inner) / width


def _largest_around(planes: torch.Tensor, radius: int, dim: int) -> torch.Tensor:
    """The largest of 2 ``radius`` + 1 neighbours along ``dim``, by windows that double in length."""
    wanted, length = 2 * radius + 1, 1
    found = F.pad(planes, (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius))
    while length < wanted:
        step = min(length, wanted - length)
        left = found.shape[dim] - step
        found = torch.maximum(found.narrow(dim, 0, left), found.narrow(dim, step, left))
        length += step
    return found
