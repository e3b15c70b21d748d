"""Pictures as prompts (IP-Adapter, arXiv 2308.06721): a second attention, beside that to the words, to a picture.

With ``Q`` the queries of a cross-attention, ``K, V`` of the words and ``K', V'`` of the picture (equation 5)::

    result = attention(Q, K, V) + weight attention(Q, K', V')

``K', V'`` depend on the picture alone, so that they are computed once for each and are inputs of the network, as those
of the words are. Of several pictures the tokens stand side by side, as in diffusers; a picture's *share* multiplies
what the softmax gives its tokens, so that with equal shares all is as without, and a picture of no share is not there.

Rows under the negative prompt look at what the adapter makes of no picture at all, as in diffusers. Guidance inside
the attentions (``attention_guidance``) has a negative branch of its own: to both of its branches the picture would add
the same, which their difference does not have in it. So the words are guided first, and the picture is added once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline.conditioning.attention import Entries, entry_name
from pipeline.conditioning.conditions import Rows, fixed, lay_out
from pipeline.conditioning.embedding import repeated
from pipeline.conditioning.mixture import Joined, KeysValues, joined
from pipeline.conditioning.prompt_travel import Travel
from pipeline.device import uploaded

_KEYS, _VALUES, _SHARES, _WEIGHT = "image_keys", "image_values", "image_shares", "image_weight"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One or several pictures, as the cross-attentions of a denoiser see them.

    Attributes:
        pictures: keys and values of each picture, (1, heads, L, size) each, in main memory.
        shares: one for each picture, above 0.
        nothing: keys and values of no picture, for rows under the negative prompt.
    """

    pictures: Sequence[KeysValues]
    shares: Sequence[float]
    nothing: KeysValues


class ImagePrompts:
    """Producer of the pictures' keys, values and shares, and of the weight that they have beside the words.

    Keys and values are mixed while one look turns into another, as those of prompts are; a look that comes or goes
    turns from or into keys and values of zero, which add nothing.

    Args:
        device, dtype: of the denoiser.

    Attributes:
        revision: see ``Producer``.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.revision = 0
        self._device, self._dtype = device, dtype
        self._travel = Travel[Joined](joined)
        self._look: Look | None = None
        self._weight = 0.0
        self._tensors: KeysValues = ()  # see ``_laid_side_by_side``; empty while no picture is looked at

    def set(self, look: Look | None, weight: float, seconds: float = 0.0) -> None:
        """Look at other pictures.

        Args:
            look: None for none. The very same object changes nothing.
            weight: of the pictures beside the words; 0 is off.
            seconds: how long the transition from the look before takes; before the first frame there is none.
        """
        if look is not self._look:
            self._head_for(look, seconds)
            self._look = look
            self._mix()
        if weight != self._weight:
            self._weight = weight
            self.revision += bool(self._tensors)

    def advance(self, at: float | None, frames: int) -> bool:
        """The next ``frames`` frames are here, the last of them of time ``at``: whether a transition went on."""
        turning = self._travel.advance(at, frames)
        if turning:
            self._mix()
        return turning and self._weight > 0

    @torch.inference_mode()
    def _head_for(self, look: Look | None, seconds: float) -> None:
        if look is not None:
            target = self._joined(look)
            if not self._tensors:
                self._travel.head_for([(_nothing_like(target), 1.0)], 0.0)
        elif self._travel.sources:
            target = _nothing_like(self._travel.sources[-1])
        else:
            return
        self._travel.head_for([(target, 1.0)], seconds)

    @torch.inference_mode()
    def _mix(self) -> None:
        gone = self._look is None and not self._travel.moving
        self._tensors = () if gone else joined(self._travel.sources, self._travel.weights).tensors
        self.revision += 1

    def _joined(self, look: Look) -> Joined:
        """All that is to be mixed of a look: keys and values, those of no picture, and the shares as (1, 1, L, 1)."""
        tokens = look.pictures[0][0].shape[2]
        length = tokens * len(look.pictures)
        pictures = [torch.cat(tensors, dim=2) for tensors in zip(*look.pictures, strict=True)]
        nothing = [repeated(tensor, length) for tensor in look.nothing]
        mean = sum(look.shares) / len(look.shares)
        logarithms = [math.log(share / mean) for share in look.shares for _ in range(tokens)]
        on_host = Joined([*pictures, *nothing, torch.tensor(logarithms).view(1, 1, length, 1)], length)
        flat = uploaded(on_host.flat(length).to(self._dtype), self._device)
        return Joined(on_host.split(flat, length), length)

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        if not self._tensors or not self._weight:
            return {}
        layers = len(self._tensors) // 2
        pictures, nothing, shares = self._tensors[:layers], self._tensors[layers:-1], self._tensors[-1]
        entries = {
            entry_name((_KEYS, _VALUES)[number % 2], number // 2): lay_out(prompts, rows.layout)
            for number, prompts in enumerate(zip(pictures, nothing, strict=True))
        }
        shares = shares.transpose(2, 3)
        entries[entry_name(_SHARES)] = lay_out([shares, torch.zeros_like(shares)], rows.layout)
        weight = uploaded(torch.full((1, 1, 1, 1), self._weight, dtype=self._dtype), self._device)
        entries[entry_name(_WEIGHT)] = fixed(weight, rows)
        return entries


def _nothing_like(one: Joined) -> Joined:
    return Joined([torch.zeros_like(tensor) for tensor in one.tensors], one.length)


class ImageAttention:
    """The effect within a cross-attention (see ``pipeline.conditioning.attention.Effect``)."""

    def applies(self, entries: Entries) -> bool:
        return _WEIGHT in entries

    def __call__(self, attended: torch.Tensor, queries: torch.Tensor, entries: Entries) -> torch.Tensor:
        found = F.scaled_dot_product_attention(queries, entries[_KEYS], entries[_VALUES], attn_mask=entries[_SHARES])
        return attended + entries[_WEIGHT] * found
