"""What travels between the threads: frames on their way to the engine, pictures on their way out, and the end.

Each says of which source it is, by the number that ``StatusBoard.begin_source`` has given it. Whatever is not of the
newest source is dropped wherever it is met: nothing of an old source is shown, and nothing of it ends the new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.frame import Frame
from app.settings import Settings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Captured:
    """A prepared frame, with all that the worker must know to treat it rightly.

    Attributes:
        frame: with its tensor.
        settings: as they were when it was read. They travel with the frame, so that a change meets exactly the frames
            that are read after it, however long the queue.
        epoch: number of its source.
        live: whether newer frames may take its place.
    """

    frame: Frame
    settings: Settings
    epoch: int
    live: bool


@dataclass(frozen=True, slots=True)
class EndOfSource:
    """Source number ``epoch`` has delivered its last frame."""

    epoch: int
    live: bool


@dataclass(frozen=True, slots=True)
class Styled:
    """The pictures of one engine call, on their way out.

    Attributes:
        images: (N, 3, H, W) float 0..1 on the engine's device, complete (nothing is left to wait for).
        frames: the N captured frames that they were made from, in order.
        number: of the pictures. Those with the number of the ones before are the very same once more, for other frames
            that the similarity filter found alike.
        epoch: number of their source.
        settings: those in force when they were made.
        live: whether newer pictures may take their place.
        model: the name of the model that made them.
        hints: (N, 3, H, W) float 0..1 on the engine's device, the hint that each was made with; None where no shape is
            kept.
        alphas: (N, 1, H, W) float 0..1, how opaque they are; None where they are.
    """

    images: torch.Tensor
    frames: tuple[Frame, ...]
    number: int
    epoch: int
    settings: Settings = field(default_factory=Settings)
    live: bool = False
    model: str = ""
    hints: torch.Tensor | None = None
    alphas: torch.Tensor | None = None
