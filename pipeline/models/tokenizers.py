"""CLIP's tokenizer for checkpoints that come without one: all of them use the same vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.models.errors import ModelError
from pipeline.models.hub import download_part
from pipeline.models.parts import explained

_HUB_NAME = "openai/clip-vit-large-patch14"


def clip_tokenizer(checkpoint: Path, vocabulary: int, pad: str | None = None) -> Any:
    """The tokenizer for a single-file checkpoint.

    It is taken from a folder ``tokenizer`` beside the file, else from the hub or its cache.

    Args:
        checkpoint: the file; what lies beside it is looked at first.
        vocabulary: rows of the checkpoint's token embedding, which the tokenizer must fit.
        pad: the token that fills up short prompts; None for the end token.

    Raises:
        ModelError: it is nowhere to be had, or does not fit.
    """
    from transformers import CLIPTokenizer

    beside = checkpoint.parent / "tokenizer"
    if beside.is_dir():
        folder = beside
    else:
        try:
            folder = download_part(_HUB_NAME, "tokenizer", files=("*.json", "vocab.json", "merges.txt"))
        except ModelError as error:
            raise ModelError(
                f"{checkpoint.name} holds no tokenizer, and CLIP's cannot be fetched: {error}; "
                f"or put a folder with its vocab.json and merges.txt at {beside}"
            ) from error
    with explained(f"the tokenizer in {folder}"):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        if pad is not None:
            tokenizer.pad_token = pad
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, but {checkpoint.name} only {vocabulary}"
        )
    return tokenizer
