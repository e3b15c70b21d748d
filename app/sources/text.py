"""A source for pictures of words alone: it sets the pace and the shape, and its frames have no picture."""

from __future__ import annotations

import numpy as np

from app.settings import LARGEST_SIDE
from app.sources.base import SourceError
from app.sources.generated import GeneratedSource

_GREY = 128


class TextSource(GeneratedSource):
    """Blank frames, from which text to image makes pictures of the prompt.

    Args:
        width, height: in pixels, at least 8; where the settings leave the size open, only their ratio matters.
        fps: frames a second, above 0.
        frames: how many there are; None for no end.
        live: True to keep to the clock as a camera does; False to give frames as fast as they are read.

    Raises:
        SourceError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        width: int = 256,
        height: int = 256,
        fps: float = 24.0,
        frames: int | None = None,
        live: bool = False,
    ) -> None:
        if not (8 <= width <= LARGEST_SIDE and 8 <= height <= LARGEST_SIDE):
            raise SourceError(
                f"The text source is {width}x{height} pixels; its sides must be between 8 and {LARGEST_SIDE}."
            )
        if not 0 < fps <= 1000:
            raise SourceError(f"The text source has {fps:g} frames a second; it must be above 0 and at most 1000.")
        if frames is not None and frames < 1:
            raise SourceError(f"The text source has {frames} frames; it must have at least 1.")
        super().__init__("words alone", fps=fps, frames=frames, live=live, blank=True)
        self._grey = np.full((height, width, 3), _GREY, np.uint8)
        self._grey.flags.writeable = False  # all frames share it

    def picture(self, _: int, /) -> np.ndarray:
        """The same grey each time: only its size is meant."""
        return self._grey
