"""What every way of storing a model comes down to, and the few helpers that reading any of them takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.errors import ModelError
from pipeline.models.families import Family
from pipeline.models.modules import AutoencoderModule, UNet

# No UNet was made for pictures of more than 2,048 pixels a side; this leaves room.
_LARGEST_SIDE = 4096


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
        sources: files and folders that it was read from besides its own, there or not.
    """

    family: Family
    unet: UNet
    autoencoder: AutoencoderModule | None
    text_encoders: list[TextEncoder]
    scheduler: Mapping[str, object]
    names: str
    raw_input: bool = False
    zero_negative: bool = False
    notes: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from ``path``, or a ``ModelError`` that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"the model is incomplete: {path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"the model is damaged: {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"the model is damaged: {path} does not hold a JSON object")
    return content


def part_class(index: Mapping[str, object], part: str) -> str | None:
    """The class of ``part`` that a ``model_index.json`` names as ``[library, class]``; None where the model has none.

    Raises:
        ModelError: the index has something else in its place.
    """
    named = index.get(part)
    if named is None:
        return None
    if not isinstance(named, list) or len(named) != 2 or not all(n is None or isinstance(n, str) for n in named):
        raise ModelError(
            f"the model is damaged: its model_index.json has {json.dumps(named)[:60]} for {part}, "
            "which must be the name of a library and of a class; get the file again"
        )
    return named[1]


def latent_side(sample_size: object) -> int:
    """The side, in latent pixels, of the pictures that a UNet's configuration was made for; 64 where it does not say.

    Args:
        sample_size: the side, or the height and the width, of which the smaller counts.

    Raises:
        ModelError: it is neither.
    """
    sides = sample_size if isinstance(sample_size, list | tuple) else (sample_size or 64,)
    sound = [side for side in sides if type(side) is int and 1 <= side <= _LARGEST_SIDE]
    if len(sound) != len(sides) or not 1 <= len(sound) <= 2:
        raise ModelError(
            f"the model is damaged: its UNet's sample_size is {str(sample_size)[:60]}; it must be a number of latent "
            f"pixels from 1 to {_LARGEST_SIDE}, or two of them"
        )
    return min(sound)
