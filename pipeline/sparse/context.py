"""Lets a UNet run on a part of a picture: what its norms and attentions see of the whole is recorded, and given."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.attention_cache import heads, merged, self_attentions


class Unsupported(Exception):
    """A module is not of the kind that can be run in parts. The message is one sentence: what, and why."""


class Context:
    """Takes the group norms and self-attentions of a UNet; ``inject`` and ``eject`` are exact inverses.

    All other layers of a ``UNet2DConditionModel`` are local: a part of a picture, with a halo, is all that they need.
    Group norms need the mean and the deviation of the whole, self-attentions its keys and values. A call while
    ``given`` is None is of the whole picture, computes what the UNet computes, and records these. Otherwise the call
    is of a part, norms take the statistics that are given, and queries look at the keys and values of the whole as
    well as at those of the part. This is SIGE's handling of norms and attention (arXiv 2211.02048, section 3.3), but
    for one rectangle at a time.

    Attributes:
        given: None, or ``[statistics, keys, values, bias, keys, values, bias, ...]``: statistics (B, groups, 2) of all
            norms; then for each self-attention (B, heads, L, size) of the whole and (1, 1, 1, L + l) to add to the
            scores of the L tokens of the whole and the l of the part, far below 0 where one is not to be seen.
    """

    def __init__(self, unet: nn.Module) -> None:
        """Raises:
        Unsupported: a layer mixes the whole picture in another way.
        """
        self._norms = [module for module in unet.modules() if isinstance(module, nn.GroupNorm)]
        for module in unet.modules():
            _check(module)
        self._attentions = self_attentions(unet)
        self._originals: list[Any] = []
        self._statistics: list[torch.Tensor] = []
        self._offset = 0
        self.given: Sequence[torch.Tensor] | None = None

    @property
    def attentions(self) -> int:
        """How many self-attentions there are."""
        return len(self._attentions)

    @property
    def injected(self) -> bool:
        """Whether the UNet's norms and self-attentions are taken."""
        return bool(self._norms) and "forward" in self._norms[0].__dict__

    def inject(self) -> None:
        """Take the norms' calls and the self-attentions' processors."""
        if self.injected:
            return
        for norm in self._norms:
            norm.__dict__["forward"] = partial(self._norm, norm)
        self._originals = [attention.processor for attention in self._attentions]
        for attention in self._attentions:
            attention.processor = _Processor(self)

    def eject(self) -> None:
        """Give the UNet back as it was."""
        if not self.injected:
            return
        for norm in self._norms:
            del norm.__dict__["forward"]
        for attention, original in zip(self._attentions, self._originals, strict=True):
            attention.processor = original
        self._originals = []

    def begin(self, given: Sequence[torch.Tensor] | None) -> None:
        """The UNet is about to be called: on the whole (None), or on a part of it."""
        self.given = given
        self._statistics = []
        self._offset = 0
        for attention in self._attentions:
            attention.processor.given = None
        if given is not None:
            for number, attention in enumerate(self._attentions):
                attention.processor.given = given[1 + 3 * number : 4 + 3 * number]

    def recorded(self) -> list[torch.Tensor]:
        """After a call: keys and values of its tokens, of each self-attention; first, of the whole, the statistics."""
        pairs = [tensor for attention in self._attentions for tensor in attention.processor.recorded]
        return [torch.cat(self._statistics, dim=1), *pairs] if self.given is None else pairs

    def _norm(self, norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
        if self.given is not None:
            statistics = self.given[0][:, self._offset : self._offset + norm.num_groups]
            self._offset += norm.num_groups
            return _affine(norm, x, statistics)
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            grouped = x.unflatten(1, (norm.num_groups, -1)).flatten(2)
            mean = grouped.mean(2)
            spread = torch.rsqrt((grouped - mean.unsqueeze(2)).square().mean(2) + norm.eps)
            self._statistics.append(torch.stack([mean, spread], dim=2))
            return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
        count, channels = x.shape[:2]
        area = x[0, 0].numel()
        y, mean, spread = torch.native_group_norm(
            x, norm.weight, norm.bias, count, channels, area, norm.num_groups, norm.eps
        )
        self._statistics.append(torch.stack([mean, spread], dim=2).float())
        return y


class _Processor:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a self-attention."""

    def __init__(self, owner: Context) -> None:
        self.owner = owner
        self.given: Sequence[torch.Tensor] | None = None
        self.recorded: tuple[torch.Tensor, ...] = ()

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        queries, keys, values = (heads(layer(hidden_states), attn.heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        self.recorded = (keys, values)
        bias = None
        if self.given is not None:
            whole_keys, whole_values, bias = (tensor.to(keys.dtype) for tensor in self.given)
            keys, values = torch.cat([whole_keys, keys], dim=2), torch.cat([whole_values, values], dim=2)
        return merged(attn, F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias))


def _affine(norm: nn.GroupNorm, x: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
    """Group norm of ``x`` (B, C, ...) with the (B, groups, 2) means and inverse deviations of something else."""
    each = statistics.repeat_interleave(norm.num_channels // norm.num_groups, dim=1)
    mean, spread = each.unbind(2)
    scale = spread * norm.weight
    shift = norm.bias - mean * scale
    shape = (len(scale), -1) + (1,) * (x.ndim - 2)
    return x * scale.view(shape).to(x.dtype) + shift.view(shape).to(x.dtype)


def _check(module: nn.Module) -> None:
    kind = type(module).__name__
    if kind in ("AdaGroupNorm", "SpatialNorm", "BatchNorm2d", "InstanceNorm2d", "DualTransformer2DModel"):
        raise Unsupported(f"a layer of kind {kind} looks at the whole picture")
    if kind == "Attention" and not getattr(module, "is_cross_attention", False):
        attention: Any = module
        odd = [name for name in ("group_norm", "spatial_norm", "norm_q") if getattr(attention, name, None) is not None]
        if odd or attention.residual_connection or attention.added_kv_proj_dim is not None:
            raise Unsupported("a self-attention is of another build than that of a transformer block")
