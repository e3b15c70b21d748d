"""What one call of a stream gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

# Whatever the caller knows its frames by, given back as it was.
Tags = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Pictures, and the tags of the frames that they are of.

    Attributes:
        image: (F, 3, H, W) float32 in 0..1 on the model's device. Where there is ``alpha``, colours are not multiplied
            with it, and black where it is 0.
        tags: the F tags of the frames that these pictures are of.
        skipped: the similarity filter skipped the call's frames: no model work was done, these are the last pictures.
        repeated: the pictures of these tags were returned before (the slots are still filling, or pause while frames
            are skipped): not to be shown twice.
        followers: the tags of later calls, in order, whose frames were skipped while these were in flight: these are
            their pictures, too.
        hint: (F, 3, H, W) float in 0..1 on the model's device: the hint that these pictures were made with, the
            weightiest of several; None while no shape is kept.
        alpha: (F, 1, H, W) float32 in 0..1, how opaque the pictures are, where nothing stands behind the person; None
            where they are opaque.
    """

    image: torch.Tensor
    tags: Tags
    skipped: bool = False
    repeated: bool = False
    followers: tuple[Tags, ...] = ()
    hint: torch.Tensor | None = None
    alpha: torch.Tensor | None = None
