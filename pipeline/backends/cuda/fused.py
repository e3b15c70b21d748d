"""Puts kernels of our own in the place of layers of a network that runs on CUDA."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Residual(Protocol):
    """What is used of diffusers' ``ResnetBlock2D``: twice a norm, SiLU and a convolution, and the time in between."""

    norm1: nn.Module
    norm2: nn.Module
    conv2: nn.Module
    nonlinearity: nn.Module
    time_emb_proj: nn.Module | None
    time_embedding_norm: str
    skip_time_act: bool


@runtime_checkable
class Ending(Protocol):
    """What is used of a network that ends in a norm, SiLU and a convolution."""

    conv_norm_out: nn.Module | None
    conv_act: nn.Module | None


def fuse(module: nn.Module) -> None:
    """Have the group norms of ``module`` run on kernels of our own, with the SiLU behind them, where Triton is there.

    The weights stay those of the layers. A layer that somebody listens to, or whose call somebody has taken over, stays
    as it is: what they expect of it would not come.
    """
    if find_spec("triton") is None:
        return
    for block in list(module.modules()):
        if isinstance(block, Residual) and _is_plain_residual(block):
            _fuse_residual(block)
        if isinstance(block, Ending) and _is_plain(block.conv_norm_out) and isinstance(block.conv_act, nn.SiLU):
            block.conv_norm_out, block.conv_act = FusedGroupNorm(block.conv_norm_out, silu=True), nn.Identity()
        for name, layer in list(block.named_children()):
            if _is_plain(layer):
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


def _fuse_residual(block: Residual) -> None:
    for name in ("norm1", "norm2"):
        setattr(block, name, FusedGroupNorm(getattr(block, name), silu=True))
    if block.time_emb_proj is not None and not block.skip_time_act:
        # The block's own activation is also that of the time embedding.
        block.time_emb_proj = nn.Sequential(nn.SiLU(), block.time_emb_proj)
    block.nonlinearity = nn.Identity()


def _is_plain_residual(block: Residual) -> bool:
    act = block.nonlinearity
    same = block.time_embedding_norm == "default" and isinstance(act, nn.SiLU) and not _is_heard(act)
    return same and _is_plain(block.norm1) and _is_plain(block.norm2)


def _is_plain(layer: nn.Module | None) -> TypeGuard[nn.GroupNorm]:
    """Whether it is a group norm with weights, and nothing else."""
    return type(layer) is nn.GroupNorm and layer.affine and not _is_heard(layer)


def _is_heard(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__)
