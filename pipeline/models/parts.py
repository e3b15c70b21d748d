"""What every way of storing a model comes down to, and the few helpers that reading any of them takes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.errors import ModelError
from pipeline.models.families import Family


@dataclass(slots=True, eq=False)
class Parts:
    """The parts of a model, read but not yet on their device.

    Attributes:
        family: which kind it is.
        unet: a ``UNet2DConditionModel``.
        autoencoder: an ``AutoencoderKL`` or ``AutoencoderTiny``; None where the checkpoint holds none.
        text_encoders: one or two.
        scheduler: the noise schedule, as a diffusers configuration.
        names: what the model is called, wherever that is written, for telling few-step models.
        raw_input: the UNet is given the input latent without the autoencoder's scale (InstructPix2Pix).
        zero_negative: an empty negative prompt is all zeros (SDXL).
        notes: what a user should know of how it was read.
    """

    family: Family
    unet: Any
    autoencoder: Any
    text_encoders: list[TextEncoder]
    scheduler: Mapping[str, Any]
    names: str
    raw_input: bool = False
    zero_negative: bool = False
    notes: list[str] = field(default_factory=list)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from ``path``, or a ``ModelError`` that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"the model is incomplete: {path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"the model is damaged: {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"the model is damaged: {path} does not hold a JSON object")
    return content


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Say the many ways in which a part's own loader fails as one sentence: ``what cannot be loaded: why``."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        why = lines[0] if lines else type(error).__name__
        if len(lines) > 1 and why.endswith(":"):
            why = f"{why} {lines[1].strip()}"
        raise ModelError(f"{what} cannot be loaded: {why}") from error
