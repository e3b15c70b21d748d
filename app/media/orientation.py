"""How a picture is to be turned and mirrored before it is shown: one of the eight ways to lay down a rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class Orientation:
    """Swap rows and columns where ``transposed``, then left and right, then top and bottom."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    def applied(self, pixels: np.ndarray) -> np.ndarray:
        """``pixels`` (H, W, 3) uint8, laid down so; contiguous."""
        if self.transposed:
            pixels = cv2.transpose(pixels)
        if self.left_right or self.up_down:
            pixels = cv2.flip(pixels, -1 if self.left_right and self.up_down else 1 if self.left_right else 0)
        return np.ascontiguousarray(pixels)

    def then(self, other: Orientation) -> Orientation:
        """Both, one after the other."""
        mine = (self.up_down, self.left_right) if other.transposed else (self.left_right, self.up_down)
        return Orientation(self.transposed != other.transposed, mine[0] != other.left_right, mine[1] != other.up_down)


IDENTITY = Orientation()
_TURNS = (
    IDENTITY,
    Orientation(transposed=True, up_down=True),
    Orientation(left_right=True, up_down=True),
    Orientation(transposed=True, left_right=True),
)


def turned(quarters: int) -> Orientation:
    """``quarters`` quarter turns counterclockwise."""
    return _TURNS[quarters % 4]


def mirrored(*, upside_down: bool) -> Orientation:
    """Top and bottom swapped, or else left and right."""
    return Orientation(up_down=True) if upside_down else Orientation(left_right=True)


def of_matrix(matrix: Sequence[int]) -> Orientation:
    """The orientation that a display matrix asks for; where it asks for something in between, the nearest.

    Args:
        matrix: the nine numbers of an MP4's ``tkhd`` box or of FFmpeg's side data, row by row. A place (p, q) in the
            picture, q downwards, is shown at (a p + c q, b p + d q), with a, b the first two numbers, and c, d the
            fourth and fifth. A matrix that mirrors has ad - bc < 0, which no angle can say.
    """
    a, b, _, c, d = matrix[:5]
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if transposed else (a, d)
    return Orientation(transposed, across < 0, down < 0)
