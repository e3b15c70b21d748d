"""Text to prompt embeddings, computed once for each text."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import nn

from pipeline.conditioning.embedding import Embedding
from pipeline.conditioning.prompt_syntax import emphasis
from pipeline.conditioning.text_model import TextModel, TextOutput, Tokenizer

# Prompts remembered, so that going back to one is free: a style's chips, an undo, a negative prompt that stays.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True, eq=False)
class TextEncoder:
    """A CLIP text encoder with its tokenizer.

    Attributes:
        tokenizer: a ``CLIPTokenizer``.
        module: a ``CLIPTextModel``, or one with projection, whose projection is then the pooled embedding.
        penultimate: the last but one layer is read, as SDXL does; else the last, normalised.
    """

    tokenizer: Tokenizer
    module: TextModel
    penultimate: bool = False

    @property
    def length(self) -> int:
        """Tokens of one chunk, both ends included (77 for CLIP)."""
        return int(self.tokenizer.model_max_length)

    @property
    def width(self) -> int:
        """D, the size of an embedding."""
        return int(self.module.config.hidden_size)

    @property
    def table(self) -> _Embeddings:
        """The module that holds the token embedding."""
        return cast(_Embeddings, getattr(self.module, "text_model", self.module).embeddings)

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, L) token ids to (N, L, D), and (N, D') where the encoder has a projection."""
        device = next(self.module.parameters()).device
        output: TextOutput = self.module(ids.to(device), output_hidden_states=self.penultimate)
        tokens = output.hidden_states[-2] if self.penultimate else output.last_hidden_state
        projection = getattr(self.module, "text_projection", None)
        if projection is None:
            return tokens, None
        # At the end token, found here: transformers takes the highest id in some models, which may be a learned word.
        end = (ids == self.tokenizer.eos_token_id).int().argmax(dim=1).to(tokens.device)
        last = output.last_hidden_state[torch.arange(len(ids), device=tokens.device), end]
        return tokens, projection(last)


class Kept(Protocol):
    """Embeddings that outlive the process."""

    def find(self, prompt: str) -> Embedding | None:
        """What an earlier process has kept for ``prompt``."""
        ...

    def keep(self, prompt: str, embedding: Embedding) -> None:
        """Keep it for a later one."""
        ...


class PromptEncoder:
    """The text encoders of a model, with a memory of the last prompts.

    Prompts may carry emphasis (see ``prompt_syntax``): the difference that a token makes to the empty prompt is
    multiplied by its weight. A prompt longer than the encoder's 77 tokens is encoded in chunks, one after the other.

    Args:
        encoders: gives one, or two whose embeddings are put side by side (SDXL); they may have to be read first.
        device, dtype: where the UNet wants the embeddings, and in which number format.
        zero_negative: an empty negative prompt is all zeros (SDXL's ``force_zeros_for_empty_prompt``).
        kept: embeddings of earlier processes, by the same weights; asked for until these change.
    """

    def __init__(
        self,
        encoders: Callable[[], Sequence[TextEncoder]],
        device: torch.device,
        dtype: torch.dtype,
        *,
        zero_negative: bool = False,
        kept: Kept | None = None,
    ) -> None:
        self._encoders = encoders
        self._kept = kept
        self._device = device
        self._dtype = dtype
        self._zero_negative = zero_negative
        self._words: dict[str, tuple[int, ...]] = {}  # learned words and their token ids
        self._known: OrderedDict[str, Embedding] = OrderedDict()
        self._nothing: Embedding | None = None

    def __call__(self, prompt: str) -> torch.Tensor:
        """(1, L, D) embedding of ``prompt`` on the model's device; L is 77 for each chunk of a CLIP prompt."""
        return self.embed(prompt).tokens

    @property
    def encoders(self) -> Sequence[TextEncoder]:
        """The text encoders."""
        return self._encoders()

    @property
    def words(self) -> tuple[str, ...]:
        """The words that ``learn`` has taught."""
        return tuple(self._words)

    @torch.inference_mode()
    def embed(self, prompt: str) -> Embedding:
        """What the text encoders say of ``prompt``; the same object for the same prompt, while it is remembered."""
        if prompt not in self._known:
            self._known[prompt] = self._found(prompt)
        self._known.move_to_end(prompt)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[prompt]

    def embed_negative(self, prompt: str) -> Embedding:
        """As ``embed``, for the prompt that guidance leads away from."""
        if prompt or not self._zero_negative:
            return self.embed(prompt)
        if self._nothing is None:
            plain = self.embed("")
            pooled = None if plain.pooled is None else torch.zeros_like(plain.pooled)
            self._nothing = Embedding(torch.zeros_like(plain.tokens), pooled)
        return self._nothing

    def changed(self, part: str, *, moved: bool = False) -> None:
        """Forget all embeddings where the weights that are about to change are those of a text encoder."""
        if part.startswith("text"):
            self._known.clear()
            self._nothing = self._kept = None

    def learn(self, words: Mapping[str, Sequence[torch.Tensor]]) -> None:
        """Teach these words, and no others, as textual inversion does (arXiv 2208.01618).

        Args:
            words: for each, one (V, D) tensor an encoder: the V token embeddings that stand for it.
        """
        for place, encoder in enumerate(self.encoders):
            embeddings = encoder.table
            plain = embeddings.token_embedding
            plain = plain.plain if isinstance(plain, _LearnedTable) else plain
            vectors = [vectors[place] for vectors in words.values()]
            embeddings.token_embedding = _LearnedTable(plain, torch.cat(vectors)) if vectors else plain
        first = self.encoders[0].table.token_embedding
        following = first.plain.num_embeddings if isinstance(first, _LearnedTable) else 0
        self._words = {}
        for word, vectors in words.items():
            self._words[word] = tuple(range(following, following + len(vectors[0])))
            following += len(vectors[0])
        self.changed("text")

    def _found(self, prompt: str) -> Embedding:
        found = None if self._kept is None else self._kept.find(prompt)
        if found is None:
            found = self._encode(prompt)
            if self._kept is not None:
                self._kept.keep(prompt, found)
        return found

    def _encode(self, prompt: str) -> Embedding:
        pieces = emphasis(prompt)
        parts, pooled = [], None
        for encoder in self.encoders:
            ids, weights = self._chunks(encoder, pieces)
            tokens, projected = encoder.read(ids)
            if bool((weights != 1).any()):
                # The embedding of the empty prompt at the same positions.
                plain, _ = encoder.read(self._chunks(encoder, [("", 1.0)])[0])
                tokens = plain + weights.to(tokens.device, tokens.dtype).unsqueeze(-1) * (tokens - plain)
            parts.append(tokens.flatten(0, 1).unsqueeze(0).to(self._device, self._dtype))
            pooled = pooled if projected is None else projected[:1].to(self._device, self._dtype)
        return Embedding(torch.cat(parts, dim=-1), pooled)

    def _chunks(self, encoder: TextEncoder, pieces: list[tuple[str, float]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, L) token ids and the weight of each, both ends and the padding included."""
        ids: list[int] = []
        weights: list[float] = []
        for text, weight in pieces:
            found = self._ids(encoder.tokenizer, text)
            ids += found
            weights += [weight] * len(found)
        room = encoder.length - 2
        tokenizer = encoder.tokenizer
        rows, strengths = [], []
        for first in range(0, max(1, len(ids)), room):
            inside = ids[first : first + room]
            padding = [tokenizer.pad_token_id] * (room - len(inside))
            rows.append([tokenizer.bos_token_id, *inside, tokenizer.eos_token_id, *padding])
            strengths.append([1.0, *weights[first : first + room], 1.0, *(1.0 for _ in padding)])
        return torch.tensor(rows), torch.tensor(strengths)

    def _ids(self, tokenizer: Tokenizer, text: str) -> list[int]:
        if not self._words:
            return _plain_ids(tokenizer, text)
        longest_first = sorted(self._words, key=len, reverse=True)
        pattern = "|".join(re.escape(word) for word in longest_first)
        ids: list[int] = []
        for part in re.split(rf"(?<!\w)({pattern})(?!\w)", text):
            ids += self._words[part] if part in self._words else _plain_ids(tokenizer, part)
        return ids


def _plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    # What is no text, such as half of a surrogate pair from a terminal of another encoding, reads as a question mark.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)


class _LearnedTable(nn.Module):
    """A token embedding with more rows behind its own."""

    learned: torch.Tensor

    def __init__(self, plain: nn.Embedding, learned: torch.Tensor) -> None:
        super().__init__()
        self.plain = plain
        self.register_buffer("learned", learned.to(plain.weight), persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        """The plain rows."""
        return self.plain.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = self.plain(ids.clamp_max(self.plain.num_embeddings - 1))
        known = ids >= self.plain.num_embeddings
        rows[known] = self.learned[ids[known] - self.plain.num_embeddings].to(rows.dtype)
        return rows


class _Embeddings(Protocol):
    """What is used of a text encoder's ``CLIPTextEmbeddings``."""

    token_embedding: nn.Embedding | _LearnedTable
