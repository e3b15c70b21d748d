"""Convolutions in eight bits: uniform affine quantisation (arXiv 1712.05877), between bounds measured beforehand.

What goes into a convolution is rounded to 256 steps between the lowest and the highest value ever seen there, weights
to 255 steps for each output channel. It is written as "fake" quantisation, which a compiler turns into integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from pipeline.models.bounds import Bounds
from pipeline.models.modules import replace_layer


def measure_bounds(module: nn.Module, inputs: Iterable[Sequence[Tensor]]) -> dict[str, tuple[float, float]]:
    """The lowest and highest value that each convolution is given, by its name, while ``module`` runs on ``inputs``."""
    found: dict[str, tuple[float, float]] = {}
    names: dict[nn.Module, str] = {one: name for name, one in _convolutions(module)}

    def look(one: nn.Module, given: tuple[Tensor, ...]) -> None:
        lowest, highest = given[0].aminmax()
        low, high = found.get(names[one], (0.0, 0.0))  # 0 is always among them, as padding is
        found[names[one]] = (min(low, float(lowest)), max(high, float(highest)))

    handles = [one.register_forward_pre_hook(look) for one in names]
    try:
        with torch.no_grad():
            for given in inputs:
                module(*given)
    finally:
        for handle in handles:
            handle.remove()
    return found


def quantise(module: nn.Module, bounds: Bounds) -> None:
    """Replace those convolutions of ``module`` that ``bounds`` names."""
    for name, convolution in _convolutions(module):
        if name in bounds:
            replace_layer(module, name, QuantisedConv(convolution, *bounds[name]))


class QuantisedConv(nn.Module):
    """A convolution of 8-bit values, (B, C, H, W) to (B, C', H', W'), written in floating point.

    Args:
        convolution: padded with zeros.
        low, high: it is given values between them, 0 included; what lies outside is cut off.
    """

    weight: Tensor
    steps: Tensor

    def __init__(self, convolution: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.step = (high - low) / 255
        self.zero = round(-low / self.step)
        weight = convolution.weight.detach()
        steps = (weight.abs().amax((1, 2, 3), keepdim=True) / 127).clamp_min(torch.finfo(weight.dtype).tiny)
        self.register_buffer("weight", (weight / steps).round().to(torch.int8))
        self.register_buffer("steps", steps)
        self.bias = convolution.bias
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        weight = self.weight.to(x.dtype) * self.steps
        return conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _convolutions(module: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d)]
