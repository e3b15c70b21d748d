"""The prompts as conditions: their embeddings, and the keys and values that cross-attention makes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.conditioning.attention import entry_name
from pipeline.conditioning.conditions import Rows, lay_out
from pipeline.conditioning.embedding import Embedding, common_length, mixed, repeated
from pipeline.conditioning.mixture import Joined, KeysValues, joined
from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.conditioning.prompt_syntax import Mix
from pipeline.conditioning.prompt_travel import PromptTravel

# Makes them of tokens (1, L, D), as ``pipeline.conditioning.attention.project`` does.
Project = Callable[[torch.Tensor], KeysValues]


class Prompts:
    """Producer of ``tokens``, ``pooled``, and of the keys and values of each cross-attention.

    Keys and values are linear in the embedding: those of a mixture of prompts are the mixture of theirs, so that a
    blend or a transition costs one weighted sum a frame, and neither a text encoder nor a projection.

    Args:
        project: makes keys and values by the denoiser's weights.
        encoder: the text encoders.

    Attributes:
        revision: see ``Producer``.
    """

    def __init__(self, project: Project, encoder: PromptEncoder) -> None:
        self.revision = 0
        self._project = project
        self._encoder = encoder
        self._travel = PromptTravel()
        self._negative: Embedding | None = None
        self._projected: dict[Embedding, Joined] = {}
        self._rows: list[tuple[Embedding, KeysValues]] = []  # of the positive prompt and, where asked for, the negative

    def set(self, positive: str | Mix, negative: str | None = None, seconds: float = 0.0) -> None:
        """Encode the prompts.

        Args:
            positive: one prompt, or a mixture.
            negative: the negative prompt; None where no guidance reads it.
            seconds: how long the transition from the mixture before takes; before the first frame there is none.
        """
        texts = ((positive, 1.0),) if isinstance(positive, str) else positive
        self._travel.head_for([(self._encoder.embed(text), weight) for text, weight in texts], seconds)
        self._negative = None if negative is None else self._encoder.embed_negative(negative)
        self._weigh()

    def advance(self, at: float | None, frames: int) -> bool:
        """The next ``frames`` frames are here, the last of them of time ``at``: whether a transition went on."""
        turning = self._travel.advance(at, frames)
        if turning:
            self._weigh()
        return turning

    def denoiser_changed(self) -> None:
        """Project the embeddings anew, as the denoiser's weights have changed."""
        self._projected.clear()
        if self._travel.sources:
            self._weigh()

    @property
    def negative(self) -> KeysValues | None:
        """Keys and values of the negative prompt; None where there is none."""
        return self._rows[1][1] if len(self._rows) > 1 else None

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        """``tokens`` (B, L, D), ``pooled`` (B, D') where the model has it, and ``cross_N_keys``, ``cross_N_values``."""
        entries = {"tokens": lay_out([embedding.tokens for embedding, _ in self._rows], rows.layout)}
        pooled = [embedding.pooled for embedding, _ in self._rows if embedding.pooled is not None]
        if pooled:
            entries["pooled"] = lay_out(pooled, rows.layout)
        columns = zip(*(keys_values for _, keys_values in self._rows), strict=True)
        for number, prompts in enumerate(columns):
            name = entry_name(("keys", "values")[number % 2], number // 2)
            entries[name] = lay_out(prompts, rows.layout)
        return entries

    @torch.inference_mode()
    def _weigh(self) -> None:
        """Mix the prompts anew; only what has no keys and values yet is projected."""
        sources = [*self._travel.sources, *([] if self._negative is None else [self._negative])]
        self._projected = {one: self._projected.get(one) or self._made(one) for one in sources}
        parts, weights = [self._projected[one] for one in self._travel.sources], self._travel.weights
        rows = [(mixed(self._travel.sources, weights), joined(parts, weights).tensors)]
        if self._negative is not None:
            rows.append((self._negative, self._projected[self._negative].tensors))
        length = common_length([embedding.tokens.shape[1] for embedding, _ in rows])
        self._rows = [
            (
                Embedding(repeated(embedding.tokens, length), embedding.pooled),
                [repeated(tensor, length) for tensor in keys_values],
            )
            for embedding, keys_values in rows
        ]
        self.revision += 1

    def _made(self, embedding: Embedding) -> Joined:
        return Joined(self._project(embedding.tokens), embedding.tokens.shape[1])
