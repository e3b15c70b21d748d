"""The image encoder of an IP-Adapter: a CLIP vision model, which says what is in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.building import build_image_encoder
from pipeline.models.errors import ModelError, explained
from pipeline.models.model_parts import read_json
from pipeline.models.weights import sound_state, weight_files

# What CLIP was trained on; in h94's repository no file says it.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# Beyond this a configuration is damaged: CLIP's largest is 336.
_LARGEST_SIDE = 1024
# How many times the shorter side the longer one is at most, before a picture is made smaller.
_LONGEST = 8


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What the configuration of an image encoder says.

    Attributes:
        width: of what it says of each part of a picture.
        pooled_width: of what it says of the whole.
        side: of the pictures that it takes, in pixels.
    """

    width: int
    pooled_width: int
    side: int


def read_facts(folder: Path) -> EncoderFacts:
    """Those of the encoder in ``folder``. Raises ``ModelError``."""
    config = read_json(folder / "config.json")
    entries = ("hidden_size", "projection_dim", "image_size")
    width, pooled_width, side = (one if isinstance(one := config.get(entry), int) else 0 for entry in entries)
    if width <= 0 or pooled_width <= 0 or not 0 < side <= _LARGEST_SIDE:
        raise ModelError(f"{folder} holds no image encoder of CLIP: its config.json has other entries")
    return EncoderFacts(width, pooled_width, side)


class VisionOutput(Protocol):
    """What is used of the output of a ``CLIPVisionModelWithProjection``."""

    image_embeds: torch.Tensor
    hidden_states: Sequence[torch.Tensor]


class ImageEncoder:
    """A ``CLIPVisionModelWithProjection`` in main memory.

    It runs once a picture, on the CPU and in float32: that takes a second or two beside the stream, and neither time
    nor memory of the device that draws. Its weights are not copied: they are read from the file as they are used, which
    must stay as it is meanwhile.

    Args:
        folder: with ``config.json`` and the weights as safetensors.

    Raises:
        ModelError: it is incomplete, damaged or of another kind.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPVisionConfig

        what = f"the image encoder in {folder}"
        state = sound_state(weight_files(folder))
        self._side = read_facts(folder).side
        with explained(what):
            config = CLIPVisionConfig.from_pretrained(folder, local_files_only=True)
        self._module: nn.Module = build_image_encoder(what, config, state)

    @torch.inference_mode()
    def __call__(self, picture: torch.Tensor | None, *, pooled: bool) -> torch.Tensor:
        """What it says of (3, H, W) in 0..1, or of nothing (None): a picture whose pixels, once prepared, are all 0.

        Args:
            pooled: of the whole picture, (1, D'); else of its parts by the last layer but one, (1, L, D).
        """
        side = self._side
        pixels = torch.zeros(3, side, side) if picture is None else prepared(picture, side)
        output = cast(VisionOutput, self._module(pixels[None], output_hidden_states=not pooled))
        return output.image_embeds if pooled else output.hidden_states[-2]


def prepared(picture: torch.Tensor, side: int) -> torch.Tensor:
    """(3, H, W) in 0..1 to (3, side, side), as CLIP's own preparation makes it.

    The shorter side becomes ``side`` long, and the middle square is taken. Sizes and rounding are those of
    transformers' ``CLIPImageProcessor``, whose pixels are whole numbers.
    """
    picture = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    if picture.shape[1:] != (side, side):
        shorter = min(picture.shape[1:])
        height, width = (min(length, _LONGEST * shorter) for length in picture.shape[1:])
        picture = _middle(picture, height, width)  # else a strip of one pixel's height would become a wall
        size = [max(side, int(length * side / shorter)) for length in (height, width)]
        picture = F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]
        picture = _middle(picture, side, side)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
    return (picture / 255 - mean) / deviation


def _middle(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    top, left = ((have - want) // 2 for have, want in zip(picture.shape[1:], (height, width), strict=True))
    return picture[:, top : top + height, left : left + width]
