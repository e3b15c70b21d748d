"""Textual inversion files: token embeddings that stand for a learned word (arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.models.errors import ModelError
from pipeline.models.parts import explained
from pipeline.models.weights import read_header

# SDXL's two text encoders, as its files call them.
_TWO = ("clip_l", "clip_g")
_ONE = "emb_params"


def read_embedding(path: Path, widths: Sequence[int]) -> tuple[str, list[torch.Tensor]]:
    """The word, and for each text encoder its (V, D) embeddings.

    diffusers writes ``{word: (V, D)}``; the web UIs write ``{"emb_params": (V, D)}``, and for SDXL
    ``{"clip_l": (V, D), "clip_g": (V, D')}``: there, the word is the file's name.

    Args:
        path: a safetensors file.
        widths: D of each text encoder of the model.

    Raises:
        ModelError: it is a pickle, damaged, no embedding, or made for another model.
    """
    header = read_header(path)
    with explained(str(path)):
        from safetensors.torch import load_file

        state = load_file(path)
    if set(_TWO) <= set(header.shapes):
        word, vectors = path.stem, [state[name] for name in _TWO]
    elif len(state) == 1:
        name, only = next(iter(state.items()))
        word, vectors = path.stem if name == _ONE else name, [only]
    else:
        raise ModelError(f"{path} is no textual inversion: it holds {len(state)} tensors")
    vectors = [vector.reshape(-1, vector.shape[-1]) if vector.ndim else vector.reshape(1, 1) for vector in vectors]
    found = tuple(vector.shape[1] for vector in vectors)
    if found != tuple(widths) or len({len(vector) for vector in vectors}) != 1:
        raise ModelError(
            f"{path} was made for another model: its embeddings are {_by(found)} wide, this model's {_by(widths)}"
        )
    return word, vectors


def _by(widths: Sequence[int]) -> str:
    return " and ".join(str(width) for width in widths)
