"""Perceptual distance from the features of Tiny Darknet, a small ImageNet classifier (weights: ml5js, MIT)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

POOL_AFTER = (1, 2, 6, 10)
POINTWISE = (3, 5, 7, 9, 11, 13, 15, 16)


class TinyDarknet(nn.Module):
    """The first `depth` layers of Tiny Darknet, frozen, with batch norm folded into the convolutions."""

    def __init__(self, weights: Path, taps: tuple[int, ...] = (2, 6, 10)) -> None:
        """`taps` are the layers whose features are compared (strides 2, 4 and 8 for 2, 6 and 10)."""
        super().__init__()
        self.taps = taps
        state = load_file(str(weights))
        self.layers = nn.ModuleList(_folded(state, index) for index in range(1, max(taps) + 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, H, W) RGB in 0..1 -> one feature map per tap, normalised to unit length over channels."""
        features: list[Tensor] = []
        x = pictures
        for index, layer in enumerate(self.layers, start=1):
            x = F.leaky_relu(layer(x), 0.1)
            if index in self.taps:
                features.append(x)
            if index in POOL_AFTER:
                x = F.max_pool2d(x, 2)
        return features


def _folded(state: dict[str, Tensor], index: int) -> nn.Conv2d:
    """Convolution `index` with its batch norm (eps 1e-3) multiplied in."""
    weight = state[f"conv{index}.weight"].float()
    bias = state.get(f"conv{index}.bias")
    scale = state[f"bn{index}.weight"].float() / (state[f"bn{index}.running_var"].float() + 1e-3).sqrt()
    shift = state[f"bn{index}.bias"].float() - state[f"bn{index}.running_mean"].float() * scale
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
    conv.weight.data.copy_(weight * scale[:, None, None, None])
    conv.bias.data.copy_(shift + (0 if bias is None else bias.float() * scale))  # type: ignore[union-attr]
    return conv


def feature_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Mean squared distance of channel-normalised features, as LPIPS (arXiv 1801.03924) without its learned weights.

    (B,) values, about 0 (equal) to 2.
    """
    total = torch.zeros(ours[0].shape[0], device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        a = F.normalize(a.float(), dim=1, eps=1e-3)
        b = F.normalize(b.float(), dim=1, eps=1e-3)
        total = total + (a - b).square().sum(1).mean((1, 2))
    return total / len(ours)


def gram_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Squared distance of Gram matrices (arXiv 1508.06576), relative to the target's own size; (B,) values."""
    total = torch.zeros(ours[0].shape[0], device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        gram_a, gram_b = _gram(a.float()), _gram(b.float())
        total = total + (gram_a - gram_b).square().sum((1, 2)) / gram_b.square().sum((1, 2)).clamp_min(1e-6)
    return total / len(ours)


def statistics_distance(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Absolute distance of each channel's mean and deviation (arXiv 1703.06868), in the target's deviations; (B,).

    The deviation is that of the channel over all of `theirs`: a channel that is mostly silent does not count more.
    """
    total = torch.zeros(ours[0].shape[0], device=ours[0].device)
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.float().flatten(2), b.float().flatten(2)
        unit = b.transpose(0, 1).flatten(1).std(1).clamp_min(1e-3)
        apart = (a.mean(2) - b.mean(2)).abs() + (a.std(2) - b.std(2)).abs()
        total = total + (apart / unit).mean(1)
    return total / len(ours)


def _gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C)."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]
