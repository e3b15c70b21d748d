"""What can happen inside a cross-attention besides attention; each is in use where its inputs are given."""

from __future__ import annotations

from pipeline.conditioning.attention import Effect
from pipeline.conditioning.attention_guidance import NormalisedGuidance

EFFECTS: tuple[Effect, ...] = (NormalisedGuidance(),)
