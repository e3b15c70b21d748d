"""The tiny autoencoder that matches a model: TAESD and TAESDXL (https://github.com/madebyollin/taesd)."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.models.errors import ModelError
from pipeline.models.families import Family
from pipeline.models.folder import read_autoencoder
from pipeline.models.hub import Progress, download_part
from pipeline.models.modules import AutoencoderModule
from pipeline.user_path import user_path

CHOICES = ("auto", "tiny", "full")


def choose_autoencoder(
    wanted: str,
    family: Family,
    own: AutoencoderModule | None,
    dtype: torch.dtype,
    notes: list[str],
    progress: Progress | None = None,
    sources: list[Path] | None = None,
) -> AutoencoderModule:
    """The autoencoder to stream with: the model's own where that is tiny or asked for, else the family's tiny one.

    Args:
        wanted: ``auto`` (tiny where it can be had), ``tiny``, ``full``, or a folder with an autoencoder.
        own: the model's autoencoder, or None where it has none.
        notes: told where the full one has to do.
        progress: told of a download.
        sources: told of the folder that the autoencoder is read from, where it is not the model's own.

    Raises:
        ModelError: there is none, or the one asked for cannot be had.
    """
    sources = [] if sources is None else sources
    if wanted not in CHOICES:
        sources.append(user_path(wanted))
        return read_autoencoder(sources[-1], dtype, notes)
    if own is not None and (wanted == "full" or type(own).__name__ == "AutoencoderTiny"):
        return own
    if wanted == "full":
        raise ModelError("the model holds no full autoencoder; use the tiny one, or give a folder with one")
    try:
        sources.append(_find_tiny(family, progress))
        return read_autoencoder(sources[-1], dtype, notes)
    except ModelError as error:
        if own is None or wanted == "tiny":
            raise
        notes.append(f"the model's full autoencoder is used, which is slow: {error}")
    return own


def _find_tiny(family: Family, progress: Progress | None) -> Path:
    if not family.tiny_autoencoder:
        raise ModelError("no tiny autoencoder is known for this model; a folder with one can be given")
    return download_part(family.tiny_autoencoder, "tiny autoencoder", progress)
