"""Textual inversion files: token embeddings that stand for a learned word (arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.models.errors import ModelError
from pipeline.models.weights import read_header, read_tensors, unused_note

# What the tensors are called where the name of the file is the word: those of SDXL's two text encoders, then of one.
_UNNAMED = (("clip_l", "clip_g"), ("emb_params",), ("string_to_param.*",), ("clip_l",), ("clip_g",))


class LearnedWord(NamedTuple):
    """A word that a text encoder can be taught.

    Attributes:
        word: as it is written in a prompt.
        vectors: one (V, D) tensor for each text encoder: the V token embeddings that stand for the word.
        notes: what of the file is not used.
    """

    word: str
    vectors: list[torch.Tensor]
    notes: tuple[str, ...] = ()


def read_embedding(path: Path, widths: Sequence[int]) -> LearnedWord:
    """The learned word in ``path``.

    diffusers writes ``{word: (V, D)}``; the web UIs write ``{"emb_params": (V, D)}``, and for SDXL
    ``{"clip_l": (V, D), "clip_g": (V, D')}``: there, the word is the file's name.

    Args:
        path: a safetensors file.
        widths: D of each text encoder of the model.

    Raises:
        ModelError: it is a pickle, damaged, no embedding, or made for another model.
    """
    read_header(path)
    state = read_tensors(path)
    names = next((names for names in _UNNAMED if set(names) <= set(state)), tuple(state))
    if len(names) > 1 and names != _UNNAMED[0]:
        raise ModelError(f"{path} is no textual inversion: it holds {len(state)} tensors, such as {names[0]}")
    if not names or not all(state[name].is_floating_point() and state[name].numel() for name in names):
        raise ModelError(f"{path} is no textual inversion: it holds no embeddings")
    word = path.stem if names in _UNNAMED else names[0]
    vectors = [state[name].reshape(-1, state[name].shape[-1] if state[name].ndim else 1) for name in names]
    found = tuple(vector.shape[1] for vector in vectors)
    if found != tuple(widths) or len({len(vector) for vector in vectors}) != 1:
        raise ModelError(
            f"{path} was made for another model: its embeddings are {_by(found)} wide, this model's {_by(widths)}"
        )
    others = sorted(set(state) - set(names))
    notes = (unused_note(path.name, others, len(state), "they are no embeddings of the word"),) if others else ()
    return LearnedWord(word, vectors, notes)


def _by(widths: Sequence[int]) -> str:
    return " and ".join(str(width) for width in widths)
