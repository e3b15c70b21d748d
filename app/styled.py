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
        number: of the pictures. Those with the number of the ones before are the very same once more, for other frames
            that the similarity filter found alike.
        settings: those in force when they were made.
        live: whether newer pictures may take their place.
        model: the name of the model that made them.
    """

    images: torch.Tensor
    frames: tuple[Frame, ...]
    number: int
    settings: Settings = field(default_factory=Settings)
    live: bool = False
    model: str = ""
