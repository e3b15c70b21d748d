"""``Frame``: the one currency of the application, from the source to the last sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.changes import Changes

if TYPE_CHECKING:  # to import torch takes seconds, which a source alone should not cost
    import numpy as np
    import torch

    from app.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture and when it was captured.

    Attributes:
        index: position in its source, counted from 0 without gaps.
        captured_at: ``time.monotonic()`` seconds at which the source delivered it.
        pixels: (H, W, 3) uint8 RGB. At the source the picture as captured; in an output frame the styled picture.
        alpha: (H, W) uint8, how opaque a styled picture is, with colours that are not multiplied with it; None where
            all of it is opaque. Whoever cannot carry it shows ``app.opacity.opaque`` instead.
        tensor: (3, H, W) float32 on the CPU in 0..1, cropped and resized for the engine; None until the capture
            thread has made it.
        media_time: presentation time in seconds within a file; None for live sources.
        original: on a styled frame, the captured frame that it was made from, or carried to (``app/reprojection``);
            index and times are that frame's.
        blank: there is no picture in ``pixels``, only its size: one is to be made of words alone.
        changes: where ``pixels`` differ from earlier frames of the source, where it knows (a drawing does).
        take: which uninterrupted stretch of the session it belongs to, counted from 0. A pause begins another: to a
            recording, whatever lies between two takes was not.
        reprojected: whether this is an earlier picture carried along the motion, and none that the model made anew.
        settings: on a styled frame, those with which the picture was made.
        model: on a styled frame, the name of the model that made it.
        hint: on a styled frame, (3, H, W) float 0..1 on any device, the hint that the newest picture of the model was
            made with; None where no shape is kept. It is brought to the host by whoever looks at it.
    """

    index: int
    captured_at: float
    pixels: np.ndarray
    tensor: torch.Tensor | None = None
    media_time: float | None = None
    original: Frame | None = None
    changes: Changes | None = None
    reprojected: bool = False
    blank: bool = False
    take: int = 0
    settings: Settings | None = None
    model: str = ""
    hint: torch.Tensor | None = None
    alpha: np.ndarray | None = None
