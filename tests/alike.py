"""Pictures that are all equally like each other, as the similarity filter measures it."""

from __future__ import annotations

import torch

from pipeline.diffusion.similarity import similarity, small_copy

SIDE = 32


def alike(likelihood: float, count: int, threshold: float = 0.98) -> torch.Tensor:
    """(count, 3, 32, 32): of any two, one is skipped after the other with this probability (0..1).

    Each has one bright pixel, at a place of its own, before the same picture.
    """
    wanted = threshold + likelihood * (1 - threshold)
    background = 0.4 * torch.rand(3, SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        pair = _marked(background, 2, middle)
        low, high = (middle, high) if similarity(*small_copy(pair).split(1)) > wanted else (low, middle)
    return _marked(background, count, low)


def _marked(background: torch.Tensor, count: int, height: float) -> torch.Tensor:
    pictures = background.repeat(count, 1, 1)
    for number in range(count):
        pictures[number, :, number] += height
    return pictures.view(count, 3, SIDE, SIDE)
