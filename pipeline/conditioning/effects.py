"""What can happen inside a cross-attention besides attention; each is in use where its inputs are given."""

from __future__ import annotations

from pipeline.conditioning.attention import Effect
from pipeline.conditioning.attention_guidance import NormalisedGuidance
from pipeline.conditioning.image_prompts import ImageAttention

# In the order in which they are carried out: the words are guided, and what pictures add is added to that.
EFFECTS: tuple[Effect, ...] = (NormalisedGuidance(), ImageAttention())
