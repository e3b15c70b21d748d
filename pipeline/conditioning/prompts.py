"""The prompts as conditions: their embeddings, and the keys and values that cross-attention makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline.conditioning.attention import entry_name
from pipeline.conditioning.conditions import Rows, lay_out
from pipeline.conditioning.embedding import Embedding, common_length, mixed, repeated
from pipeline.conditioning.mixture import Joined, KeysValues, joined
from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.conditioning.prompt_syntax import Mix
from pipeline.conditioning.prompt_travel import PromptTravel

# A prompt, and what a network makes of it.
PromptRow = tuple[Embedding, KeysValues]
# Makes them of tokens (1, L, D), as ``pipeline.conditioning.attention.project`` does.
Project = Callable[[torch.Tensor], KeysValues]


class Prompts:
    """Producer of ``tokens``, ``pooled``, and of the keys and values of each cross-attention of the denoiser.

    Args:
        project: makes keys and values by the denoiser's weights.
        encoder: the text encoders.

    Attributes:
        revision: see ``Producer``.
        travel: the prompts under way.
        negative_prompt: the negative one; None where no guidance reads it.
    """

    def __init__(self, project: Project, encoder: PromptEncoder) -> None:
        self.revision = 0
        self.travel = PromptTravel()
        self.negative_prompt: Embedding | None = None
        self._encoder = encoder
        self._own = ProjectedPrompts(project)
        self._rows: list[PromptRow] = []

    def set(self, positive: str | Mix, negative: str | None = None, seconds: float = 0.0) -> None:
        """Encode the prompts.

        Args:
            positive: one prompt, or a mixture.
            negative: the negative prompt; None where no guidance reads it.
            seconds: how long the transition from the mixture before takes; before the first frame there is none.
        """
        texts = ((positive, 1.0),) if isinstance(positive, str) else positive
        self.travel.head_for([(self._encoder.embed(text), weight) for text, weight in texts], seconds)
        self.negative_prompt = None if negative is None else self._encoder.embed_negative(negative)
        self._weigh()

    def advance(self, at: float | None, frames: int) -> bool:
        """The next ``frames`` frames are here, the last of them of time ``at``: whether a transition went on."""
        turning = self.travel.advance(at, frames)
        if turning:
            self._weigh()
        return turning

    def denoiser_changed(self) -> None:
        """Project the embeddings anew, as the denoiser's weights have changed."""
        self._own.forget()
        if self.travel.sources:
            self._weigh()

    @property
    def negative(self) -> KeysValues | None:
        """Keys and values of the negative prompt; None where there is none."""
        return self._rows[1][1] if len(self._rows) > 1 else None

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        """``tokens`` (B, L, D), ``pooled`` (B, D') where the model has it, and ``cross_N_keys``, ``cross_N_values``."""
        return _entries(self._rows, rows)

    def _weigh(self) -> None:
        self._rows = self._own.rows(self.travel, self.negative_prompt)
        self.revision += 1


class PromptsBeside:
    """Producer of what ``Prompts`` gives, with the keys and values of another network that is told the same prompts.

    Args:
        prompts: those of the denoiser.
        project: makes keys and values by the other network's weights, which never change.
    """

    def __init__(self, prompts: Prompts, project: Project) -> None:
        self._prompts = prompts
        self._own = ProjectedPrompts(project)

    @property
    def revision(self) -> int:
        """See ``Producer``."""
        return self._prompts.revision

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        """As ``Prompts.entries``."""
        return _entries(self._own.rows(self._prompts.travel, self._prompts.negative_prompt), rows)


class ProjectedPrompts:
    """Prompts with the keys and values that one network makes of them.

    Keys and values are linear in the embedding: those of a mixture of prompts are the mixture of theirs, so that a
    blend or a transition costs one weighted sum a frame, and neither a text encoder nor a projection.

    Args:
        project: makes them.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._projected: dict[Embedding, Joined] = {}

    def forget(self) -> None:
        """Project all of them anew, as the weights have changed."""
        self._projected.clear()

    @torch.inference_mode()
    def rows(self, travel: PromptTravel, negative: Embedding | None) -> list[PromptRow]:
        """Mix the prompts; only what has no keys and values yet is projected.

        Returns:
            The positive prompt and, where there is one, the negative, all equally long.
        """
        sources = [*travel.sources, *([] if negative is None else [negative])]
        self._projected = {one: self._projected.get(one) or self._made(one) for one in sources}
        parts = [self._projected[one] for one in travel.sources]
        rows = [(mixed(travel.sources, travel.weights), joined(parts, travel.weights).tensors)]
        if negative is not None:
            rows.append((negative, self._projected[negative].tensors))
        length = common_length([embedding.tokens.shape[1] for embedding, _ in rows])
        return [
            (
                Embedding(repeated(embedding.tokens, length), embedding.pooled),
                [repeated(tensor, length) for tensor in keys_values],
            )
            for embedding, keys_values in rows
        ]

    def _made(self, embedding: Embedding) -> Joined:
        return Joined(self._project(embedding.tokens), embedding.tokens.shape[1])


def _entries(prompts: Sequence[PromptRow], rows: Rows) -> dict[str, torch.Tensor]:
    """These prompts, the positive one first, laid out over the rows of a call."""
    entries = {"tokens": lay_out([embedding.tokens for embedding, _ in prompts], rows.layout)}
    pooled = [embedding.pooled for embedding, _ in prompts if embedding.pooled is not None]
    if pooled:
        entries["pooled"] = lay_out(pooled, rows.layout)
    columns = zip(*(keys_values for _, keys_values in prompts), strict=True)
    for number, tensors in enumerate(columns):
        name = entry_name(("keys", "values")[number % 2], number // 2)
        entries[name] = lay_out(tensors, rows.layout)
    return entries
