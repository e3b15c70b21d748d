"""Cross-attention whose keys and values are inputs of the network, so that they are computed once for each prompt.

Keys and values of a cross-attention depend on the prompt alone: they are the same for every frame, step and slot until
the prompt or the weights change. StreamDiffusion (arXiv 2312.12491, section 3.5) caches them for that reason. Here the
cache is not a part of the network: ``project`` computes keys and values beside it, and ``ConditionedAttention`` takes
them from the call's inputs. What else a prompt can do inside an attention (see ``effects``) arrives the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn

# The inputs of one attention, by their names within it: "keys", "values", and those of effects.
Entries = Mapping[str, torch.Tensor]


class Attention(Protocol):
    """What is used of diffusers' ``Attention`` layers."""

    heads: int
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: Sequence[nn.Module]
    rescale_output_factor: float
    is_cross_attention: bool
    processor: Callable[..., torch.Tensor]


class Effect(Protocol):
    """A further thing that an attention does where its inputs are given (``pipeline.conditioning.effects``)."""

    def applies(self, entries: Entries) -> bool:
        """Whether the inputs of this effect are among ``entries``."""
        ...

    def __call__(self, attended: torch.Tensor, queries: torch.Tensor, entries: Entries) -> torch.Tensor:
        """(B, heads, L, size) of what the attention has found, and its queries, to the same with the effect."""
        ...


class ConditionedAttention:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a cross-attention: reads keys and values from ``entries``.

    The result is bit-equal to the plain processor's, as the same projections were applied to the same embeddings.

    Attributes:
        entries: the inputs of the coming call; set by ``route`` before each.
    """

    def __init__(self, effects: Sequence[Effect] = ()) -> None:
        self.entries: Entries = {}
        self._effects = tuple(effects)

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        entries = self.entries
        queries = heads(attn.to_q(hidden_states), attn.heads)
        attended = F.scaled_dot_product_attention(queries, entries["keys"], entries["values"])
        for effect in self._effects:
            if effect.applies(entries):
                attended = effect(attended, queries, entries)
        return merged(attn, attended)


def condition(denoiser: nn.Module, effects: Sequence[Effect] = ()) -> list[ConditionedAttention]:
    """Have every cross-attention of ``denoiser`` read its keys and values from inputs; its processors, in order."""
    processors = []
    for attention in cross_attentions(denoiser):
        attention.processor = ConditionedAttention(effects)
        processors.append(attention.processor)
    return processors


def entry_name(name: str, layer: int | None = None) -> str:
    """What the network calls the input ``name`` of cross-attention number ``layer``, or of all of them (None)."""
    return f"{_PREFIX}{_ALL if layer is None else layer}_{name}"


def route(processors: Sequence[ConditionedAttention], conditions: Mapping[str, torch.Tensor]) -> None:
    """Hand each cross-attention its own among the inputs of the network; inputs for others are passed over."""
    found: list[dict[str, torch.Tensor]] = [{} for _ in processors]
    for name, tensor in conditions.items():
        if name.startswith(_PREFIX):
            layer, _, own = name[len(_PREFIX) :].partition("_")
            for entries in found if layer == _ALL else (found[int(layer)],):
                entries[own] = tensor
    for processor, entries in zip(processors, found, strict=True):
        processor.entries = entries


_PREFIX, _ALL = "cross_", "all"


def project(denoiser: nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Keys and values of one prompt's ``tokens`` (1, L, D): for each cross-attention (1, heads, L, size) both in turn.

    One prompt at a time: a batch of another size may be computed by another kernel, and a cached key is to be bit-equal
    to the one that it stands for.
    """
    found = []
    for attention in cross_attentions(denoiser):
        for projection in (attention.to_k, attention.to_v):
            found.append(heads(projection(tokens), attention.heads))
    return found


def cross_attentions(denoiser: nn.Module) -> list[Attention]:
    """The cross-attentions whose computation ``ConditionedAttention`` covers; any other kind keeps its processor."""
    return [attention for attention in plain_attentions(denoiser) if attention.is_cross_attention]


def self_attentions(denoiser: nn.Module) -> list[Attention]:
    """The plain self-attentions of a UNet's transformers."""
    return [attention for attention in plain_attentions(denoiser) if not attention.is_cross_attention]


def plain_attentions(denoiser: nn.Module) -> list[Attention]:
    """The attentions that are queries, keys, values and nothing besides."""
    return [
        cast(Attention, module)
        for module in denoiser.modules()
        if hasattr(module, "is_cross_attention")
        and getattr(module, "group_norm", None) is None
        and getattr(module, "spatial_norm", None) is None
        and not getattr(module, "norm_cross", None)
        and getattr(module, "norm_q", None) is None
        and not getattr(module, "residual_connection", False)
    ]


def heads(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, L, heads * size) to (B, heads, L, size)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def merged(attn: Attention, attended: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, size) of what the heads have found to (B, L, D), what the attention gives."""
    output = attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))
    return output if attn.rescale_output_factor == 1 else output / attn.rescale_output_factor
