"""What is used of transformers' CLIP text encoders and their tokenizers, as types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn


class TokenIds(Protocol):
    """What a tokenizer makes of a text."""

    input_ids: Sequence[int]


class Tokenizer(Protocol):
    """What is used of a ``CLIPTokenizer``."""

    model_max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int

    def __call__(self, text: str, **options: object) -> TokenIds:
        """The ids of the tokens of ``text``."""
        ...


class TextConfig(Protocol):
    """What is read of a ``CLIPTextConfig``."""

    hidden_size: int


class TextOutput(Protocol):
    """What a text encoder says of (N, L) ids: (N, L, D) of its last layer, normalised, and of each layer, if asked."""

    last_hidden_state: torch.Tensor
    hidden_states: Sequence[torch.Tensor]


class TextModel(nn.Module):
    """A ``CLIPTextModel``, or a ``CLIPTextModelWithProjection``.

    Nothing is ever an instance of this class: Python cannot say "a ``torch.nn.Module`` that also has these".
    """

    config: TextConfig
