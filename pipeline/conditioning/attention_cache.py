"""Cross-attention keys and values, computed once a prompt instead of once a step.

StreamDiffusion (arXiv 2312.12491, section 3.5) describes this cache. Keys and values of a UNet's cross-attention
depend on the prompt alone: they are the same for every frame, step and slot until the prompt or the weights change.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.conditioning.prompt_travel import combine, repeated
from pipeline.diffusion.guidance import RowLayout


class AttentionCache:
    """Gives every cross-attention of a UNet a processor that reads cached keys and values.

    ``inject`` and ``eject`` are exact inverses. The result is bit-equal to the UNet without the cache, since the very
    same projections are applied to the very same embeddings, once.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._unet = unet
        self._originals: dict[Any, Any] = {}
        self._processors: dict[Any, _CachedProcessor] = {}
        self._sources: list[tuple[Any, str, nn.Module, list[tuple[nn.Parameter, int]]]] = []

    @property
    def injected(self) -> bool:
        """Whether the UNet is reading from this cache."""
        return bool(self._originals)

    def inject(self) -> None:
        """Put the cached processors in. The UNet must not be called before ``fill`` and ``select``.

        Another cache that is in this UNet is ejected: it notices by ``injected``.
        """
        if self.injected:
            return
        for attention in _cross_attentions(self._unet):
            if isinstance(attention.processor, _CachedProcessor):
                attention.processor.owner.eject()
            self._originals[attention] = attention.processor
            self._processors[attention] = _CachedProcessor(self, attention.processor)
            attention.processor = self._processors[attention]

    def eject(self) -> None:
        """Give the UNet its own processors back and drop what is cached."""
        for attention, original in self._originals.items():
            attention.processor = original
        self._originals.clear()
        self._processors.clear()
        self._sources.clear()

    def fill(self, embeddings: Sequence[torch.Tensor]) -> None:
        """Compute keys and values of ``embeddings``: (1, L, D) each, of which ``weigh`` then makes prompts."""
        self._sources.clear()
        for attention, processor in self._processors.items():
            # One at a time: a batch of another size may take another kernel, and the cache is to be bit-exact.
            keys = [heads(attention.to_k(row), attention.heads) for row in embeddings]
            values = [heads(attention.to_v(row), attention.heads) for row in embeddings]
            processor.fill(keys, values)
            for name in ("to_k", "to_v"):
                layer = getattr(attention, name)
                versions = [(parameter, _version(parameter)) for parameter in layer.parameters()]
                self._sources.append((attention, name, layer, versions))

    def weigh(self, rows: Sequence[Sequence[float]]) -> None:
        """Make each prompt a mixture of what ``fill`` was given: one row of weights a prompt, each summing to 1.

        Keys and values are linear in the embedding, so this is the cache of the mixed embeddings, without a projection.
        """
        for processor in self._processors.values():
            processor.weigh(rows)

    def select(self, layout: RowLayout) -> None:
        """Lay the prompts out over the rows of the coming UNet call."""
        for processor in self._processors.values():
            processor.select(layout)

    def laid_out(self, layout: RowLayout) -> tuple[torch.Tensor, ...]:
        """Keys and values of each cross-attention in turn over the rows of a UNet call, (B, heads, L, head size) each.

        The same tensors each time until the next ``fill`` or ``weigh``.
        """
        self.select(layout)
        return tuple(tensor for processor in self._processors.values() for tensor in processor.selected)

    def use(self, keys_values: Sequence[torch.Tensor]) -> None:
        """Take these for the coming UNet calls, in the order of ``laid_out``."""
        pairs = zip(keys_values[::2], keys_values[1::2], strict=True)
        for processor, pair in zip(self._processors.values(), pairs, strict=True):
            processor.selected = pair

    @property
    def stale(self) -> bool:
        """Whether a projection's weights have changed since ``fill``, or an adapter has replaced one."""
        return any(
            getattr(attention, name) is not layer or any(_version(p) != version for p, version in versions)
            for attention, name, layer, versions in self._sources
        )


class _CachedProcessor:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a cross-attention: asks the cache instead of the prompt."""

    def __init__(self, owner: AttentionCache, original: Any) -> None:
        self.owner = owner
        self._filled: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])  # (1, heads, L, head size) each
        self.original = original
        self._keys = self._values = torch.empty(0)  # (P, heads, L, head size)
        self._rows: dict[RowLayout, tuple[torch.Tensor, torch.Tensor]] = {}
        self.selected = (self._keys, self._values)

    def fill(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        self._filled = keys, values

    def weigh(self, rows: Sequence[Sequence[float]]) -> None:
        self._keys, self._values = (stack([combine(parts, row) for row in rows]) for parts in self._filled)
        self._rows.clear()

    def select(self, layout: RowLayout) -> None:
        if layout not in self._rows:
            self._rows[layout] = (lay_out(self._keys, layout), lay_out(self._values, layout))
        self.selected = self._rows[layout]

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        keys, values = self.selected
        queries = heads(attn.to_q(hidden_states), attn.heads)
        return merged(attn, F.scaled_dot_product_attention(queries, keys, values))


def stack(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """(1, ..., L, D) each to (P, ..., L, D), the shorter ones repeated to a common L (see ``combine``)."""
    if len(rows) == 1:
        return rows[0]
    length = math.lcm(*(row.shape[-2] for row in rows))
    return torch.cat([repeated(row, length) for row in rows])


def uncached_copy(unet: nn.Module, shared: dict[int, Any] | None = None) -> Any:
    """A deep copy without any cache in it; may be made while another thread calls ``unet``.

    Args:
        shared: what not to copy, by ``id``.
    """
    cached = [a.processor for a in _cross_attentions(unet) if isinstance(a.processor, _CachedProcessor)]
    return copy.deepcopy(unet, {**(shared or {}), **{id(processor): processor.original for processor in cached}})


def lay_out(prompts: torch.Tensor, layout: RowLayout) -> torch.Tensor:
    """Repeat rows of ``prompts`` (P, ...) as ``layout`` says; one prompt alone is repeated without a copy."""
    rows = [prompts[index : index + 1].expand(count, *prompts.shape[1:]) for index, count in layout]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def self_attentions(unet: nn.Module) -> list[Any]:
    """The plain self-attentions of a UNet's transformers."""
    return [module for module in plain_attentions(unet) if not module.is_cross_attention]


def _cross_attentions(unet: nn.Module) -> list[Any]:
    """The cross-attentions whose computation ``_CachedProcessor`` covers; any other kind keeps its own processor."""
    return [module for module in plain_attentions(unet) if module.is_cross_attention]


def plain_attentions(unet: nn.Module) -> list[Any]:
    """The attentions that are queries, keys, values and nothing besides."""
    return [
        module
        for module in unet.modules()
        if hasattr(module, "is_cross_attention")
        and getattr(module, "group_norm", None) is None
        and getattr(module, "spatial_norm", None) is None
        and not getattr(module, "norm_cross", None)
        and getattr(module, "norm_q", None) is None
        and not getattr(module, "residual_connection", False)
    ]


def _version(parameter: nn.Parameter) -> int:
    """Counts in-place changes; inference tensors do not, and cannot be changed outside inference mode either."""
    return 0 if parameter.is_inference() else parameter._version


def heads(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, L, heads * size) to (B, heads, L, size)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def merged(attn: Any, attended: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, size) of what the heads have found to (B, L, D), what the attention gives."""
    together = attended.transpose(1, 2).flatten(2)
    return attn.to_out[1](attn.to_out[0](together)) / attn.rescale_output_factor
