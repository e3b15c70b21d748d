"""Which screens there are, and where: as mss counts and measures them, which reads them.

mss and Qt need not agree. Qt lists the primary screen first, mss in the order of the system. Qt measures in points of
its own, of which a pixel may be a fraction; mss measures in pixels on Windows and X11, and in points on macOS. What
they share is where a screen's upper left corner lies, so that is what a screen is known by, and the ratio of both
sizes is what the one counts in the other's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen, in mss's units.

    Attributes:
        number: from 1, as ``ScreenSource`` takes it.
        left, top: of its upper left corner on the whole desktop; below 0 left of or above the primary screen.
        width, height: its size.
    """

    number: int
    left: int
    top: int
    width: int
    height: int


def screen_at(known: Sequence[Screen], left: int, top: int) -> Screen:
    """The one of ``known``, at least one, whose corner lies here; the nearest, where none does to the pixel."""
    return min(known, key=lambda screen: (screen.left - left) ** 2 + (screen.top - top) ** 2)


def region_on(screen: Screen, size: tuple[int, int], drawn: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """A rectangle drawn over ``screen``, in the screen's own units and within it.

    Both corners are rounded, not the corner and the size: so regions that share an edge still do, and one that was
    drawn to the edge of the screen ends there.

    Args:
        screen: that it was drawn on.
        size: (width, height) of that screen in the units of ``drawn``.
        drawn: (x, y, width, height) from its upper left corner; what lies off the screen is cut off.
    """
    x, y, wide, high = drawn
    left, right = (_scaled(edge, size[0], screen.width) for edge in (x, x + wide))
    top, bottom = (_scaled(edge, size[1], screen.height) for edge in (y, y + high))
    return left, top, right - left, bottom - top


def _scaled(edge: int, of: int, to: int) -> int:
    return min(to, max(0, round(edge * to / of)))
