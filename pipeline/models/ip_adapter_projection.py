"""From what an image encoder says of a picture to tokens: the three projections of IP-Adapter.

The modules bear the names that the adapters' files have (tencent-ailab's code), so that these fit as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.conditioning.attention import heads

# Tokens that the plain IP-Adapter makes of a picture, and the size of a head in the resampler: no file says them.
PLAIN_TOKENS = 4
HEAD_SIZE = 64


class PlainProjection(nn.Module):
    """IP-Adapter (arXiv 2308.06721, section 3.2.1): a few tokens from the embedding of the whole picture.

    Args:
        encoded: width of the embedding.
        width: of a token.
    """

    def __init__(self, encoded: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(encoded, PLAIN_TOKENS * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """(N, D) to (N, 4, width)."""
        return self.norm(self.proj(encoded).unflatten(-1, (PLAIN_TOKENS, -1)))


class FullProjection(nn.Module):
    """IP-Adapter "full": one token for each part of the picture."""

    def __init__(self, encoded: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(encoded, encoded), nn.GELU(), nn.Linear(encoded, width), nn.LayerNorm(width)
        )

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """(N, L, D) to (N, L, width)."""
        return self.proj(encoded)


class Resampler(nn.Module):
    """IP-Adapter Plus: learned queries that look at the parts of the picture (as Flamingo's, arXiv 2204.14198).

    Args:
        encoded: width of what the encoder says of each part.
        inner: width of the queries.
        width: of a token.
        tokens: how many queries there are.
        attended: width of all heads together.
        spread: width of the layer between those of the feed-forward networks.
        depth: how often the queries look.
    """

    def __init__(
        self, encoded: int, inner: int, width: int, tokens: int, attended: int, spread: int, depth: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, tokens, inner))
        self.proj_in = nn.Linear(encoded, inner)
        self.proj_out = nn.Linear(inner, width)
        self.norm_out = nn.LayerNorm(width)
        blocks = [nn.ModuleList([_Looking(inner, attended), _feed_forward(inner, spread)]) for _ in range(depth)]
        self.layers = nn.ModuleList(blocks)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """(N, L, D) to (N, tokens, width)."""
        parts = self.proj_in(encoded)
        found = self.latents.expand(len(parts), -1, -1)
        for look, think in self.layers:  # pyright: ignore[reportGeneralTypeIssues]  # each is a list of two
            found = found + look(parts, found)
            found = found + think(found)
        return self.norm_out(self.proj_out(found))


class _Looking(nn.Module):
    """Attention of the queries to the parts of the picture and to each other."""

    def __init__(self, inner: int, attended: int) -> None:
        super().__init__()
        self._heads = attended // HEAD_SIZE
        self.norm1, self.norm2 = nn.LayerNorm(inner), nn.LayerNorm(inner)
        self.to_q = nn.Linear(inner, attended, bias=False)
        self.to_kv = nn.Linear(inner, 2 * attended, bias=False)
        self.to_out = nn.Linear(attended, inner, bias=False)

    def forward(self, parts: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        queries = self.norm2(queries)
        keys, values = self.to_kv(torch.cat([self.norm1(parts), queries], dim=1)).chunk(2, dim=-1)
        asked, keys, values = (heads(one, self._heads) for one in (self.to_q(queries), keys, values))
        return self.to_out(F.scaled_dot_product_attention(asked, keys, values).transpose(1, 2).flatten(2))


def _feed_forward(inner: int, spread: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(inner), nn.Linear(inner, spread, bias=False), nn.GELU(), nn.Linear(spread, inner, bias=False)
    )
