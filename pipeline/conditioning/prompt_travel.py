"""From one mixture of prompts to the next: at once, or in a transition timed by the frames.

Cross-attention's keys and values are linear in the prompt's embedding, so a mixture of embeddings is the same mixture
of keys and values: while a transition runs, a frame costs one weighted sum a layer, and no text encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# A frame that comes without a time is taken to follow the last one by this.
FRAME_SECONDS = 1 / 30


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

    Parts of another L are repeated up to a common one. Attention over keys and values that are all there twice is
    attention over them once, so that a long and a short prompt can be mixed and neither is changed by it.
    """
    active = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
    if len(active) == 1 and active[0][1] == 1:
        return active[0][0]
    length = math.lcm(*(part.shape[-2] for part, _ in active))
    total = repeated(active[0][0], length) * active[0][1]
    for part, weight in active[1:]:
        total = total.add(repeated(part, length), alpha=weight)
    return total


def repeated(part: torch.Tensor, length: int) -> torch.Tensor:
    """(..., L, D) to (..., length, D) by repetition; ``length`` is a multiple of L."""
    times = length // part.shape[-2]
    return part if times == 1 else part.repeat(*(1,) * (part.ndim - 2), times, 1)


def mixed(sources: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    """One embedding for a whole mixture."""
    pooled = [source.pooled for source in sources if source.pooled is not None]
    tokens = combine([source.tokens for source in sources], weights)
    return Embedding(tokens, _sum(pooled, weights) if len(pooled) == len(sources) else None)


def _sum(parts: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    # A pooled embedding has no length; as one token it has.
    return combine([part.unsqueeze(-2) for part in parts], weights).squeeze(-2)


class PromptTravel:
    """Which embeddings are read at a moment, and with what weights.

    Attributes:
        sources: P embeddings.
        weights: P numbers that sum to 1; changed by ``advance``.
    """

    def __init__(self) -> None:
        self.sources: tuple[Embedding, ...] = ()
        self.weights: tuple[float, ...] = ()
        self._target: tuple[float, ...] = ()
        self._seconds = self._elapsed = 0.0
        self._now: float | None = None

    @property
    def moving(self) -> bool:
        """Whether a transition runs."""
        return self.weights != self._target

    def head_for(self, target: Sequence[tuple[Embedding, float]], seconds: float) -> None:
        """Turn to another mixture, over ``seconds`` of the frames' own time; at once before the first frame.

        A transition that is interrupted goes on from where it is: nothing jumps.
        """
        embeddings = tuple(embedding for embedding, _ in target)
        weights = tuple(weight for _, weight in target)
        if seconds > 0 and self._now is not None and self.sources:
            self.sources = (mixed(self.sources, self.weights), *embeddings)
            self.weights = (1.0, *(0.0 for _ in weights))
            self._target = (0.0, *weights)
        else:
            if embeddings != self.sources:
                self.sources = embeddings
            self.weights = self._target = weights
        self._seconds, self._elapsed = seconds, 0.0

    def advance(self, at: float | None = None, frames: int = 1) -> bool:
        """The next ``frames`` frames are here, the last of them taken at ``at`` seconds of any steady clock.

        A clock that steps back, as that of another source may, holds the transition for that one frame.

        Returns:
            Whether the weights have changed.
        """
        before = self._now
        self._now = (before or 0.0) + frames * FRAME_SECONDS if at is None else at
        if not self.moving:
            return False
        self._elapsed += max(0.0, self._now - before) if before is not None else 0.0
        done = min(1.0, self._elapsed / self._seconds)
        # Written so that both ends are exact.
        self.weights = self._target if done == 1 else (1 - done, *(done * weight for weight in self._target[1:]))
        return True
