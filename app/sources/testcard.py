"""A synthetic moving picture for tests and benchmarks: the same frames for the same seed on every machine."""

from __future__ import annotations

import cv2
import numpy as np

from app.sources.base import SourceError
from app.sources.generated import GeneratedSource

INDEX_BITS = 16
_DISCS = 5


class TestCardSource(GeneratedSource):
    """Discs that bounce over a gradient, with the frame's number both readable and coded in the pixels.

    Every frame is a pure function of ``seed`` and its index. ``read_index`` gets the index back from a picture.

    Args:
        seed: chooses colours, sizes and speeds of the discs.
        width: in pixels, at least 32.
        height: in pixels, at least 24.
        fps: frames a second, above 0.
        frames: how many frames there are; None for no end.
        live: True to keep to the clock as a camera does; False to give frames as fast as they are read.

    Raises:
        SourceError: an argument is out of its range.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(
        self,
        *,
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        fps: float = 30.0,
        frames: int | None = None,
        live: bool = False,
    ) -> None:
        if width < 32 or height < 24:
            raise SourceError(f"The test card is {width}x{height} pixels; it must be at least 32x24.")
        if not 0 < fps <= 1000:
            raise SourceError(f"The test card has {fps:g} frames a second; it must be above 0 and at most 1000.")
        if seed < 0 or (frames is not None and frames < 0):
            raise SourceError("The test card's seed and number of frames must be 0 or more.")
        super().__init__(f"test card {width}x{height}", fps=fps, frames=frames, live=live)
        self._width, self._height = width, height
        rng = np.random.default_rng(seed)
        self._background = _gradient(rng, width, height)
        self._colours = rng.integers(40, 256, (_DISCS, 3))
        self._radii = rng.uniform(0.06, 0.16, _DISCS) * min(width, height)
        self._starts = rng.uniform(0, 2, (_DISCS, 2))
        self._speeds = rng.uniform(0.004, 0.02, (_DISCS, 2))

    def picture(self, index: int, /) -> np.ndarray:
        """Frame ``index`` as (height, width, 3) uint8 RGB."""
        picture = self._background.copy()
        # A triangle wave is a bounce between the walls with no state to carry from frame to frame.
        phase = (self._starts + self._speeds * index) % 2.0
        places = 1.0 - np.abs(1.0 - phase)
        for place, radius, colour in zip(places, self._radii, self._colours, strict=True):
            centre = radius + place * (np.array([self._width, self._height]) - 2 * radius)
            x, y = (round(float(value) * 16) for value in centre)
            shade = tuple(int(value) for value in colour)
            cv2.circle(picture, (x, y), round(float(radius) * 16), shade, -1, cv2.LINE_AA, shift=4)
        scale = self._height / 480
        origin = (int(16 * scale), int(48 * scale))
        cv2.putText(picture, f"{index:05d}", origin, cv2.FONT_HERSHEY_SIMPLEX, 1.4 * scale, (255, 255, 255), 2)
        _draw_index(picture, index)
        return picture


def read_index(pixels: np.ndarray) -> int:
    """The frame index (modulo 2**16) coded along the bottom of a test card, at any size from 32x24 up.

    Args:
        pixels: (H, W, 3) uint8 RGB, a test card, possibly resized or compressed.
    """
    height, width = pixels.shape[:2]
    row = height - max(1, height // 24)
    columns = ((np.arange(INDEX_BITS) + 0.5) * width / INDEX_BITS).astype(int)
    bits = pixels[row, columns].mean(axis=1) > 127
    return int(sum(1 << place for place, bit in enumerate(bits) if bit))


def _draw_index(picture: np.ndarray, index: int) -> None:
    """A strip of black (0) and white (1) cells along the bottom, the lowest bit on the left."""
    height, width = picture.shape[:2]
    edges = (np.arange(INDEX_BITS + 1) * width / INDEX_BITS).astype(int)
    for place in range(INDEX_BITS):
        picture[height - max(2, height // 12) :, edges[place] : edges[place + 1]] = 255 * (index >> place & 1)


def _gradient(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A still background: four seeded corner colours, blended."""
    corners = rng.integers(30, 180, (2, 2, 3)).astype(np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
