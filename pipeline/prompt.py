"""Text to prompt embeddings, computed once for each text."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

from pipeline.prompt_travel import Embedding

# Texts and their weights, which sum to 1.
Mix = tuple[tuple[str, float], ...]

# Prompts remembered, so that going back to one is free: a style's chips, an undo, a negative prompt that stays.
_REMEMBERED = 64


def blended(prompt: str, prompt_b: str, blend: float) -> Mix:
    """``prompt`` alone at 0, ``prompt_b`` alone at 1, both between."""
    if blend == 0 or prompt == prompt_b:
        return ((prompt, 1.0),)
    return ((prompt_b, 1.0),) if blend == 1 else ((prompt, 1 - blend), (prompt_b, blend))


class PromptEncoder:
    """A tokenizer and a CLIP text encoder, with a memory of the last prompts."""

    def __init__(self, tokenizer: Any, text_encoder: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._device = device
        self._dtype = dtype
        self._known: OrderedDict[str, Embedding] = OrderedDict()

    def __call__(self, prompt: str) -> torch.Tensor:
        """(1, L, D) embedding of ``prompt`` on the model's device; L is the tokenizer's length (77 for CLIP)."""
        return self.embed(prompt).tokens

    @torch.inference_mode()
    def embed(self, prompt: str) -> Embedding:
        """What the text encoder says of ``prompt``; the same object for the same prompt, as long as it is remembered.

        What is longer than the tokenizer's length is cut off.
        """
        if prompt not in self._known:
            tokens = self._tokenizer(
                prompt,
                padding="max_length",
                max_length=self._tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            hidden = self._text_encoder(tokens.input_ids.to(self._device))[0]
            self._known[prompt] = Embedding(hidden.to(self._dtype))
        self._known.move_to_end(prompt)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[prompt]
