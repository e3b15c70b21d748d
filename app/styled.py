"""What goes from the engine to the display thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.frame import Frame
from app.settings import Settings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Styled:
    """The pictures of one engine call, on their way out.

    Attributes:
        images: (N, 3, H, W) float 0..1 on the engine's device, complete (nothing is left to wait for).
        frames: the N captured frames that they were made from, in order.
        settings: those in force when they were made.
        live: whether newer pictures may take their place.
        skipped: the similarity filter skipped these frames; the pictures are the last ones.
    """

    images: torch.Tensor
    frames: tuple[Frame, ...]
    settings: Settings = field(default_factory=Settings)
    live: bool = False
    skipped: bool = False
