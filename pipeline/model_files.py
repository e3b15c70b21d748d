"""The files that a model, or what is added to it, is read from. Cheap to import; nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.user_path import is_file, is_folder

INDEX = "model_index.json"  # a folder with it is a model in the diffusers layout
# The folders in it that a stream is read from.
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_ADAPTER_PARTS = ("image_encoder", "models", "models/image_encoder", "sdxl_models", "sdxl_models/image_encoder")
_SUFFIXES = (".json", ".safetensors", ".txt")  # configurations, weights, vocabularies


def files_of_model(path: Path) -> Iterator[Path]:
    """Those of a model folder or of a checkpoint; none where ``path`` is neither. Other folders are not looked into."""
    if is_file(path):
        yield path
    elif is_file(path / INDEX):
        for folder in (path, *(path / part for part in _PARTS)):
            yield from _in(folder)


def files_of_adapter(path: Path) -> Iterator[Path]:
    """Those of a LoRA, a learned word, a control or an IP-Adapter: a file, or a folder with it."""
    if is_file(path):
        yield path
    elif is_folder(path):
        for folder in (path, *(path / part for part in _ADAPTER_PARTS)):
            yield from _in(folder)


def _in(folder: Path) -> Iterator[Path]:
    """The files of the kinds that are read which lie in ``folder`` itself; none where it may not be listed."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - the names alone
    except OSError:
        return
    yield from (folder / name for name in sorted(names) if name.endswith(_SUFFIXES) and is_file(folder / name))
