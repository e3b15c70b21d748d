"""Normalised attention guidance (NAG, arXiv 2505.21179): a negative prompt that works at one and two steps.

Classifier-free guidance asks the denoiser twice, and its two answers part so far in a run of few steps that their
difference leads nowhere. This guidance looks at both prompts inside of each cross-attention instead. With ``Z+`` and
``Z-`` what the queries find under the prompt and under the negative one (section 3.2)::

    guided   = Z- + scale (Z+ - Z-)                                       extrapolated; the paper's phi is scale - 1
    limited  = guided min(1, limit |Z+| / |guided|)                       L1 norms of each token; the paper's tau
    result   = blend limited + (1 - blend) Z+                             the paper's alpha

The denoiser runs once; a cross-attention costs a second look at 77 tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pipeline.conditioning.attention import Entries, entry_name
from pipeline.conditioning.conditions import Rows, lay_out
from pipeline.conditioning.prompts import Prompts

_KEYS, _VALUES, _STRENGTHS = "negative_keys", "negative_values", "negative_strengths"


class AttentionGuidance:
    """Producer of the negative prompt's keys and values, and of ``scale``, ``limit`` and ``blend`` for each row.

    Rows that are themselves under the negative prompt are not guided.

    Args:
        prompts: where the negative prompt's keys and values come from.
        device, dtype: of the denoiser.
    """

    def __init__(self, prompts: Prompts, device: torch.device, dtype: torch.dtype) -> None:
        self._prompts = prompts
        self._device, self._dtype = device, dtype
        self._strengths = (1.0, 1.0, 0.0)
        self._changes = 0

    @property
    def revision(self) -> int:
        """See ``Producer``; the prompts count only while the guidance is in use."""
        return self._changes + self._prompts.revision if self._in_use else -1 - self._changes

    def set(self, scale: float, limit: float, blend: float) -> None:
        """Take other strengths: see the formula above. With ``scale`` 1 or ``blend`` 0 nothing is guided."""
        if (scale, limit, blend) != self._strengths:
            self._strengths = scale, limit, blend
            self._changes += 1

    @property
    def _in_use(self) -> bool:
        scale, _, blend = self._strengths
        return scale != 1 and blend > 0 and self._prompts.negative is not None

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        negative = self._prompts.negative
        if negative is None or not self._in_use:
            return {}
        everywhere = ((0, rows.count),)
        entries = {
            entry_name((_KEYS, _VALUES)[number % 2], number // 2): lay_out([tensor], everywhere)
            for number, tensor in enumerate(negative)
        }
        guided = torch.tensor([self._strengths], dtype=self._dtype)
        plain = torch.tensor([(1.0, 1.0, 0.0)], dtype=self._dtype)
        entries[entry_name(_STRENGTHS)] = lay_out([guided, plain], rows.layout).to(self._device)
        return entries


class NormalisedGuidance:
    """The effect within a cross-attention (see ``pipeline.conditioning.attention.Effect``)."""

    def applies(self, entries: Entries) -> bool:
        return _STRENGTHS in entries

    def __call__(self, attended: torch.Tensor, queries: torch.Tensor, entries: Entries) -> torch.Tensor:
        negative = F.scaled_dot_product_attention(queries, entries[_KEYS], entries[_VALUES])
        scale, limit, blend = (entries[_STRENGTHS][:, number].view(-1, 1, 1, 1) for number in range(3))
        guided = negative + scale * (attended - negative)
        ratio = _length(guided) / _length(attended).clamp_min(_LEAST)
        limited = guided * (limit.float() / ratio.clamp_min(_LEAST)).clamp_max(1).to(guided.dtype)
        return blend * limited + (1 - blend) * attended


# Where nothing was found there is nothing to limit, and no division by zero.
_LEAST = 1e-12


def _length(found: torch.Tensor) -> torch.Tensor:
    """(B, 1, L, 1) the L1 norm of each token over all heads, in float32: a sum in float16 would overflow."""
    return found.float().abs().sum((1, 3), keepdim=True)
