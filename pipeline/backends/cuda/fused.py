"""Puts kernels of our own in the place of layers of a network that runs on CUDA."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn


def fuse(module: nn.Module) -> None:
    """Have the group norms of ``module`` run on kernels of our own, with the SiLU behind them, where Triton is there.

    The weights stay those of the layers. A layer that somebody listens to, or whose call somebody has taken over, stays
    as it is: what they expect of it would not come.
    """
    if find_spec("triton") is None:
        return
    for block in list(module.modules()):
        if _is_residual(block):
            _fuse_residual(block)
    for block in list(module.modules()):
        norm, act = getattr(block, "conv_norm_out", None), getattr(block, "conv_act", None)
        if isinstance(norm, nn.GroupNorm) and isinstance(act, nn.SiLU) and _is_plain(norm):
            block.conv_norm_out, block.conv_act = FusedGroupNorm(norm, silu=True), nn.Identity()
        for name, layer in list(block.named_children()):
            if type(layer) is nn.GroupNorm and _is_plain(layer):
                setattr(block, name, FusedGroupNorm(layer, silu=False))


class FusedGroupNorm(nn.Module):
    """Gives what the ``nn.GroupNorm`` that it is made of gives, on its weights, with ``silu`` through SiLU."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._groups, self._eps, self._silu = norm.num_groups, norm.eps, silu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from pipeline.backends.cuda.group_norm import group_norm

        if x.ndim == 4:
            return group_norm(x, self.weight, self.bias, self._groups, self._eps, self._silu)
        y = nn.functional.group_norm(x, self._groups, self.weight, self.bias, self._eps)
        return nn.functional.silu(y) if self._silu else y


def _fuse_residual(block: nn.Module) -> None:
    block.norm1, block.norm2 = FusedGroupNorm(block.norm1, silu=True), FusedGroupNorm(block.norm2, silu=True)
    if block.time_emb_proj is not None and not block.skip_time_act:
        # The block's own activation is also that of the time embedding.
        block.time_emb_proj = nn.Sequential(nn.SiLU(), block.time_emb_proj)
    block.nonlinearity = nn.Identity()


def _is_residual(block: nn.Module) -> bool:
    """Whether it is diffusers' ``ResnetBlock2D``: norm, SiLU, convolution, time embedding, norm, SiLU, convolution."""
    return (
        isinstance(getattr(block, "norm1", None), nn.GroupNorm)
        and isinstance(getattr(block, "norm2", None), nn.GroupNorm)
        and isinstance(getattr(block, "nonlinearity", None), nn.SiLU)
        and hasattr(block, "conv2")
        and getattr(block, "time_embedding_norm", None) == "default"
        and all(map(_is_plain, (block.norm1, block.norm2, block.nonlinearity)))
    )


def _is_plain(layer: nn.Module) -> bool:
    heard = layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__
    return not heard and getattr(layer, "weight", True) is not None
