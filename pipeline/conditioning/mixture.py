"""Mixtures of keys and values: one weighted sum over everything that cross-attentions read of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.conditioning.embedding import common_length, repeated

# Keys and values of each cross-attention in turn, (1, heads, L, size) each.
KeysValues = Sequence[torch.Tensor]


class Joined:
    """Tensors that are mixed together, as they are and in one piece of memory.

    Args:
        tensors: (1, N, L, size) each, with the same L.
        length: L.
    """

    def __init__(self, tensors: KeysValues, length: int) -> None:
        self.tensors, self.length = tensors, length
        self._flat: tuple[int, torch.Tensor] | None = None

    def flat(self, length: int) -> torch.Tensor:
        """All of them one behind the other, repeated to ``length`` tokens, so that a weighted sum is one operation."""
        if self._flat is None or self._flat[0] != length:
            pieces = [repeated(tensor, length).flatten() for tensor in self.tensors]
            self._flat = length, torch.cat(pieces) if pieces else torch.empty(0)
        return self._flat[1]

    def split(self, flat: torch.Tensor, length: int) -> KeysValues:
        """The tensors that lie in what ``flat`` gave for ``length`` tokens."""
        shapes = [(*tensor.shape[:2], length, tensor.shape[3]) for tensor in self.tensors]
        pieces = flat.split([torch.Size(shape).numel() for shape in shapes]) if shapes else []
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def joined(parts: Sequence[Joined], weights: Sequence[float]) -> Joined:
    """The weighted sum of ``parts``; those of weight 0 are left out, one of weight 1 alone is given as it is.

    Parts of different lengths are repeated up to a common one, which changes no attention (see ``embedding.combine``).
    """
    active = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]
    (first, weight), *others = active
    if not others and weight == 1:
        return first
    length = common_length([part.length for part, _ in active])
    total = first.flat(length) * weight
    for part, share in others:
        total.add_(part.flat(length), alpha=share)
    return Joined(first.split(total, length), length)
