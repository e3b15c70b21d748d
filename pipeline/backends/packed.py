"""Layers whose weights oneDNN has laid out beforehand, for small windows of a large UNet in PyTorch on a CPU.

PyTorch has oneDNN lay out a layer's weights anew at each call. For a window of the latent that takes several times as
long as the layer itself; with the weights laid out once, the result is the same.

This stands on five operators that PyTorch keeps for its own compiler. They are not documented, and a release may change
or drop them. So their presence is asked for by name before any layer is replaced: where one is missing, all layers stay
as they are, windows are right but slower, and the log says so. ``tests/pipeline/backends/test_packed.py`` compares
the results with those of the plain layers on the PyTorch that is installed.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

from pipeline.models.modules import replace_layer

# Layers of fewer weights stay as they are: a packed layer has its weights twice in memory, and these gain too little.
LEAST_WEIGHTS = 900_000
# Private to PyTorch, as the module's docstring says.
_NEEDED = (
    "aten::mkldnn_reorder_conv2d_weight",
    "mkldnn::_convolution_pointwise",
    "mkldnn::_is_mkldnn_bf16_supported",
    "mkldnn::_linear_pointwise",
    "mkldnn::_reorder_linear_weight",
)

logger = logging.getLogger(__name__)


def pack(module: nn.Module) -> None:
    """Replace the large convolutions and linear layers of ``module``, where this PyTorch and processor can do it."""
    parameter = next(module.parameters())
    known = (torch.float32, torch.bfloat16)
    if parameter.device.type != "cpu" or parameter.dtype not in known or not torch.backends.mkldnn.is_available():
        return
    missing = [name for name in _NEEDED if not _is_there(name)]
    if missing:
        logger.warning("sparse: this PyTorch has no %s; windows of a large UNet are slower", ", ".join(missing))
        return
    if parameter.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for name, layer in list(module.named_modules()):
        # Only plain layers: a subclass, or one whose call an adapter has taken over, does more than its weights.
        if "forward" in layer.__dict__:
            continue
        if type(layer) is nn.Conv2d and layer.weight.numel() >= LEAST_WEIGHTS and layer.padding_mode == "zeros":
            replace_layer(module, name, PackedConv(layer))
        elif type(layer) is nn.Linear and layer.weight.numel() >= LEAST_WEIGHTS:
            replace_layer(module, name, PackedLinear(layer))


def _is_there(name: str) -> bool:
    space, _, operator = name.partition("::")
    return hasattr(getattr(torch.ops, space), operator)


class PackedConv(nn.Module):
    """Gives what the ``nn.Conv2d`` that it is made of gives."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self._sizes = list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(layer.weight.detach().to_mkldnn(), *self._sizes)
        self._bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self._sizes, "none", [], "")


class PackedLinear(nn.Module):
    """Gives what the ``nn.Linear`` that it is made of gives."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self._bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
