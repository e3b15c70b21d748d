"""CLIP's tokenizer: the one in a folder, or, for checkpoints that come without, the one that all of them use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pipeline.conditioning.text_model import Tokenizer
from pipeline.models.errors import ModelError, first_line
from pipeline.models.hub import download_part
from pipeline.user_path import is_file, is_folder

_HUB_NAME = "openai/clip-vit-large-patch14"
# Either the vocabulary and the order of merging, or both in one file.
_VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))


def read_tokenizer(folder: Path, vocabulary: int, positions: int, pad: str | None = None) -> Tokenizer:
    """The ``CLIPTokenizer`` in ``folder``.

    Args:
        folder: with its vocabulary.
        vocabulary: rows of the text encoder's token embedding, which the tokenizer must fit.
        positions: the most tokens that the text encoder reads at once.
        pad: the token that fills up short prompts; None for the one that the folder names.

    Raises:
        ModelError: its vocabulary is missing, damaged, or not the one of the text encoder.
    """
    from transformers import CLIPTokenizer

    if not is_folder(folder):
        raise ModelError(f"the model is incomplete: {folder} is missing")
    if not any(all(is_file(folder / name) for name in names) for names in _VOCABULARIES):
        raise ModelError(f"the tokenizer in {folder} has no vocabulary: vocab.json and merges.txt are missing")
    with _explained(folder):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        if pad is not None:
            tokenizer.pad_token = pad
        # Where the folder does not say how long a prompt may be, transformers takes 10^30.
        tokenizer.model_max_length = min(int(tokenizer.model_max_length), positions)
        tokenizer("a photo", add_special_tokens=False)  # a vocabulary without letters is found out here
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, but the text encoder only {vocabulary}"
        )
    if not all(isinstance(end, int) and 0 <= end < vocabulary for end in ends):
        raise ModelError(f"the tokenizer in {folder} is damaged: it has no tokens for both ends of a prompt")
    return cast(Tokenizer, tokenizer)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """As ``explained``, for a library whose errors have no kind of their own."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {first_line(error)}") from error


def folder_beside(checkpoint: Path) -> Path:
    """Where the tokenizer of a single-file checkpoint lies, if it comes with one."""
    return checkpoint.parent / "tokenizer"


def find_clip_tokenizer(checkpoint: Path) -> Path:
    """The folder of the tokenizer for a single-file checkpoint: ``folder_beside`` it, else one from the hub.

    Raises:
        ModelError: it is nowhere to be had.
    """
    folder = folder_beside(checkpoint)
    if not is_folder(folder):
        try:
            folder = download_part(_HUB_NAME, "tokenizer", files=("*.json", "vocab.json", "merges.txt"))
        except ModelError as error:
            raise ModelError(
                f"{checkpoint.name} holds no tokenizer, and CLIP's cannot be fetched: {error}; "
                f"or put a folder with its vocab.json and merges.txt at {folder}"
            ) from error
    return folder
