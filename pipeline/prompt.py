"""Text to prompt embeddings, computed once for each text."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

# Prompts remembered, so that going back to one is free: a style's chips, an undo, a negative prompt that stays.
_REMEMBERED = 64


class PromptEncoder:
    """A tokenizer and a CLIP text encoder, with a memory of the last prompts."""

    def __init__(self, tokenizer: Any, text_encoder: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._device = device
        self._dtype = dtype
        self._known: OrderedDict[str, torch.Tensor] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, prompt: str) -> torch.Tensor:
        """(1, L, D) embedding of ``prompt`` on the model's device; L is the tokenizer's length (77 for CLIP).

        What is longer than that is cut off.
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
            self._known[prompt] = hidden.to(self._dtype)
        self._known.move_to_end(prompt)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[prompt]
