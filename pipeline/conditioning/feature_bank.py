"""A bank of past features: each picture takes over inside the model what it has in common with those before.

(StreamV2V, arXiv 2405.15757.) Every self-attention also looks at keys and values of earlier frames, and what it finds
is drawn to the most similar of what it found in them. In a stream batch position k always holds a frame that is about
to take step k, so that the bank of a row is what that very row had at earlier calls, at the same noise level.

With queries, keys and values ``Q, K, V`` of a row, those of its bank ``K', V'`` and what was found ``F'`` (``s`` is the
setting, which the paper has not)::

    found   = softmax([Q K^T, Q K'^T + log s] / sqrt(size)) [V, V']       extended self-attention, section 4.1
    nearest = the row of F' with the largest cosine to a row of found     feature fusion, section 4.2
    result  = found + s share (nearest - found)                           share: 0 below a cosine of 0.9, up to 0.8

The paper fuses what leaves a transformer block; here it is what the self-attention has found in it.

``log s`` is no scale but a weight: a bank of ``s = 0.5`` counts like half as many tokens. The bank is as large as the
tokens of one frame. Every few calls the frame in hand is merged into it: of both together one half is chosen at random,
and each token of the other half is averaged into the one of the first that is most like it (section 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.conditioning.attention import Attention, Entries, heads, merged, self_attentions
from pipeline.conditioning.conditions import Rows, fixed
from pipeline.device import uploaded

BANK_PREFIX = "self_"  # of all names of inputs and outputs
_KINDS = ("keys", "values", "features")
_STRENGTHS = "strengths"  # (B, 2): the logarithm of the bank's weight, and the fusion's share
_ALL = "all"
_NOTHING = -1e4  # the logarithm of no weight at all, within float16
_EVERY = 4  # calls from one merge to the next
_MOST_SHARE = 0.8  # of the nearest features in the fused ones
_ALIKE, _SAME = 0.9, 0.98  # cosines from and up to which features are fused more and more
# Features are compared each with each: beyond so many tokens that would take longer than the attention itself.
_MOST_FUSED = 1024


class BankedAttention:
    """Stands in for a processor of diffusers in a plain self-attention; without entries it is that processor.

    Attributes:
        entries: the inputs of the coming call; set by ``route_banks`` before each.
        found: what this attention had at the call, (B, heads, L, size) each, by ``keys``, ``values`` and ``features``.
    """

    def __init__(self, plain: Callable[..., torch.Tensor]) -> None:
        self.entries: Entries = {}
        self.found: dict[str, torch.Tensor] = {}
        self._plain = plain

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, *arguments: object, **options: object
    ) -> torch.Tensor:
        entries = self.entries
        if not entries:
            return self._plain(attn, hidden_states, *arguments, **options)
        projections = (attn.to_q, attn.to_k, attn.to_v)
        queries, keys, values = (heads(projection(hidden_states), attn.heads) for projection in projections)
        if "keys" in entries:
            attended = extended(queries, keys, values, entries)
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values)
        self.found = {"keys": keys, "values": values, "features": attended}
        if "features" in entries and attended.shape[2] <= _MOST_FUSED:
            attended = fused(attended, entries)
        return merged(attn, attended)


def extended(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, entries: Entries) -> torch.Tensor:
    """What the queries find among a row's own keys and those of its bank."""
    rows, _, own, _ = keys.shape
    weight = entries[_STRENGTHS][:, :1].expand(rows, entries["keys"].shape[2])
    mask = torch.cat([weight.new_zeros(rows, own), weight], 1)[:, None, None]
    together = (torch.cat([one, entries[name]], 2) for one, name in ((keys, "keys"), (values, "values")))
    return F.scaled_dot_product_attention(queries, *together, attn_mask=mask)


def fused(found: torch.Tensor, entries: Entries) -> torch.Tensor:
    """What was found, drawn to the features of the bank that are most like it."""
    banked = entries["features"].transpose(1, 2).flatten(2)
    now = found.transpose(1, 2).flatten(2)
    cosine, place = (F.normalize(now, dim=-1) @ F.normalize(banked, dim=-1).transpose(1, 2)).max(-1, keepdim=True)
    nearest = banked.gather(1, place.expand_as(now))
    share = ((cosine - _ALIKE) / (_SAME - _ALIKE)).clamp(0, 1) * entries[_STRENGTHS][:, 1:, None]
    return heads(now + share * (nearest - now), found.shape[1])


def banked(denoiser: nn.Module) -> list[BankedAttention]:
    """Have every plain self-attention of ``denoiser`` look at a bank where it is given one; all of these."""
    processors = []
    for attention in self_attentions(denoiser):
        attention.processor = BankedAttention(attention.processor)
        processors.append(attention.processor)
    return processors


def route_banks(processors: Sequence[BankedAttention], conditions: Mapping[str, torch.Tensor]) -> None:
    """Hand each self-attention its own among the inputs of the network."""
    found: list[dict[str, torch.Tensor]] = [{} for _ in processors]
    for name, tensor in conditions.items():
        if name.startswith(BANK_PREFIX):
            layer, _, own = name[len(BANK_PREFIX) :].partition("_bank_")
            for entries in found if layer == _ALL else (found[int(layer)],):
                entries[own] = tensor
    for processor, entries in zip(processors, found, strict=True):
        processor.entries = entries


def found_by(processors: Sequence[BankedAttention]) -> dict[str, torch.Tensor]:
    """What the self-attentions had at the call, as outputs of the network; nothing where no bank is in use."""
    return {
        f"{BANK_PREFIX}{number}_{name}": tensor
        for number, one in enumerate(processors)
        if one.entries
        for name, tensor in one.found.items()
    }


class FeatureBank:
    """Producer of each row's bank; the stream batch's rows of one call are the same at the next.

    Args:
        device, dtype: of the denoiser.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.revision = 0
        self._device, self._dtype = device, dtype
        self._strength = 0.0
        self._rows: Rows | None = None  # whose bank it is
        self._bank: dict[str, torch.Tensor] = {}
        self._shapes: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}  # by the latent's size, without rows
        self._calls = 0  # since the last merge
        self._chance = torch.Generator()

    @property
    def in_use(self) -> bool:
        """Whether pictures take anything over."""
        return self._strength > 0

    def set(self, strength: float) -> None:
        """Take over as much as ``strength`` says, 0..1; with 0 the bank is dropped."""
        if strength != self._strength:
            self._strength = strength
            self.revision += 1
            if not self.in_use:
                self.forget()
                self._shapes.clear()

    def forget(self) -> None:
        """Drop the bank: what comes next has nothing to do with the frames so far."""
        self._rows, self._bank, self._calls = None, {}, 0
        self.revision += 1

    def knows(self, rows: Rows) -> bool:
        """Whether the shapes of the bank are known for latents of this size; see ``learn``."""
        return (rows.height, rows.width) in self._shapes

    def learn(self, rows: Rows, outputs: Mapping[str, torch.Tensor]) -> None:
        """Take the shapes of the bank from what the denoiser gave for latents of this size, with strengths alone."""
        found = {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items() if name.startswith(BANK_PREFIX)}
        self._shapes[rows.height, rows.width] = found
        self.revision += 1

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        """See ``Producer``. Rows that have no bank are given one of zeros that counts for nothing."""
        if not self.in_use:
            return {}
        shapes = self._shapes.get((rows.height, rows.width), {})
        bank, weight, share = self._bank, math.log(self._strength), _MOST_SHARE * self._strength
        if rows != self._rows:
            zero = torch.zeros((), dtype=self._dtype, device=self._device)
            bank = {name: zero.expand(rows.count, *shape) for name, shape in shapes.items()}
            weight, share = _NOTHING, 0.0
        strengths = uploaded(torch.tensor([[weight, share]], dtype=self._dtype), self._device)
        named = {_input_of(name): bank[name] for name in shapes}
        return {f"{BANK_PREFIX}{_ALL}_bank_{_STRENGTHS}": fixed(strengths, rows), **named}

    def saw(self, rows: Rows, outputs: Mapping[str, torch.Tensor]) -> None:
        """Merge what the denoiser had at this call into the bank, if it is time to."""
        if not self.in_use:
            return
        if rows != self._rows:
            self._rows, self._bank, self._calls = rows, {}, 0
        self._calls += 1
        if self._bank and self._calls % _EVERY:
            return
        now = {name: outputs[name].to(self._device, self._dtype) for name in outputs if name.startswith(BANK_PREFIX)}
        self._bank = self._merged_with(now) if self._bank else now
        self.revision += 1

    def _merged_with(self, now: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The bank, with as many tokens as before, after these have been merged into it."""
        made: dict[str, torch.Tensor] = {}
        for layer in dict.fromkeys(name.rpartition("_")[0] for name in now):
            names = [f"{layer}_{kind}" for kind in _KINDS]
            together = [torch.cat([self._bank[name], now[name]], 2) for name in names]
            order = torch.randperm(together[0].shape[2], generator=self._chance)
            made |= zip(names, halved(together, uploaded(order, self._device)), strict=True)
        return made


def halved(together: Sequence[torch.Tensor], order: torch.Tensor) -> list[torch.Tensor]:
    """Half as many tokens: one half in ``order``, with each token of the other averaged into the one most like it.

    Args:
        together: keys, values and features (B, heads, 2 L, size); which are alike is told by the last.
        order: (2 L,) the tokens' numbers; those that stay come first.
    """
    count, size = together[0].shape[1], len(order) // 2
    flat = [one.transpose(1, 2).flatten(2)[:, order] for one in together]
    staying, going = F.normalize(flat[-1], dim=-1).split(size, 1)
    place = (going @ staying.transpose(1, 2)).argmax(-1, keepdim=True)
    into = torch.ones_like(place, dtype=flat[0].dtype)
    weight = torch.ones_like(into).scatter_add_(1, place, into)
    halves = []
    for one in flat:
        kept, given = one.split(size, 1)
        halves.append(heads(kept.scatter_add(1, place.expand_as(given), given) / weight, count))
    return halves


def _input_of(output: str) -> str:
    """The input by which the denoiser is given the bank of what it gives as ``output``."""
    layer, _, kind = output.rpartition("_")
    return f"{layer}_bank_{kind}"
