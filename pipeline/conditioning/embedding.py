"""What text encoders say of a prompt, and how several of these become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# A mixture of prompts of 2, 3, 5 and 7 chunks would be 210 chunks long, and each length is a network of its own to a
# compiler. Beyond this many tokens (24 chunks of CLIP's 77), parts are repeated unevenly instead.
MOST_TOKENS = 1848


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What a model's text encoders say of one prompt.

    Attributes:
        tokens: (1, L, D), read by cross-attention; L is 77 for each chunk of a CLIP prompt.
        pooled: (1, D'), of the whole prompt, for the models that take it into the time embedding (SDXL); else None.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None


def combine(parts: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The weighted sum of ``parts``, each (..., L, D); those of weight 0 are left out, one of weight 1 alone is exact.

    Parts of different L are repeated up to a common one, which changes no prompt: attention gives the same over keys
    and values that are all there twice as over those that are there once. So a long and a short prompt can be mixed.
    """
    active = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
    if len(active) == 1 and active[0][1] == 1:
        return active[0][0]
    length = common_length([part.shape[-2] for part, _ in active])
    total = repeated(active[0][0], length) * active[0][1]
    for part, weight in active[1:]:
        total = total.add(repeated(part, length), alpha=weight)
    return total


def common_length(lengths: Sequence[int]) -> int:
    """A number of tokens that parts of these ``lengths`` can be repeated to.

    It is a multiple of each, so that repetition changes no attention. Where that would be more than ``MOST_TOKENS``, it
    is a multiple of the longest: some tokens of a shorter part are then there once more than others, and weigh more.
    """
    exact, longest = math.lcm(*lengths), max(lengths)
    return exact if exact <= MOST_TOKENS else longest * max(1, MOST_TOKENS // longest)


def repeated(part: torch.Tensor, length: int) -> torch.Tensor:
    """(..., L, D) to (..., length, D) by repetition; the last round is cut where ``length`` is no multiple of L."""
    times = -(-length // part.shape[-2])
    if times == 1:
        return part
    return part.repeat(*(1,) * (part.ndim - 2), times, 1)[..., :length, :]


def stack(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """(1, ..., L, D) each to (P, ..., L, D), the shorter ones repeated to a common L (see ``combine``)."""
    if len(rows) == 1:
        return rows[0]
    length = common_length([row.shape[-2] for row in rows])
    return torch.cat([repeated(row, length) for row in rows])


def mixed(sources: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    """One embedding for a whole mixture."""
    pooled = [source.pooled for source in sources if source.pooled is not None]
    tokens = combine([source.tokens for source in sources], weights)
    return Embedding(tokens, _sum(pooled, weights) if len(pooled) == len(sources) else None)


def _sum(parts: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    # A pooled embedding has no length; as one token it has.
    return combine([part.unsqueeze(-2) for part in parts], weights).squeeze(-2)
