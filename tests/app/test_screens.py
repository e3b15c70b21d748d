"""Screens and regions on them: corners and edges, whatever the units that each side counts in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.screens import Screen, region_on, screen_at

# As two monitors are reported, the primary one on the right: by Windows and X11 to mss, in this order; Qt lists the
# primary one first, and tells the same corners.
LEFT, PRIMARY, BELOW = Screen(1, -1920, -120, 1920, 1080), Screen(2, 0, 0, 2560, 1440), Screen(3, 0, 1440, 1280, 720)


def test_a_screen_is_known_by_its_corner_and_not_by_its_number():
    known = [LEFT, PRIMARY, BELOW]
    assert [screen_at(known, *corner) for corner in ((0, 0), (-1920, -120), (0, 1440))] == [PRIMARY, LEFT, BELOW]
    assert screen_at(known, -1919, -121) == LEFT, "where the two differ by rounding"
    assert screen_at([PRIMARY], -1920, 0) == PRIMARY


@pytest.mark.parametrize(
    ("screen", "size", "drawn", "region"),
    [
        # 100 %: as drawn.
        (PRIMARY, (2560, 1440), (10, 20, 300, 200), (10, 20, 300, 200)),
        # 125 % of 1366 pixels are 1092.8 points, of which Qt makes 1093.
        (Screen(1, 0, 0, 1366, 768), (1093, 614), (1000, 10, 93, 90), (1250, 13, 116, 112)),
        # 150 %: 911 points.
        (Screen(1, 0, 0, 1366, 768), (911, 512), (1, 10, 910, 90), (1, 15, 1365, 135)),
        # 200 % on Windows and X11: pixels.
        (Screen(1, 0, 0, 2880, 1800), (1440, 900), (720, 450, 720, 450), (1440, 900, 1440, 900)),
        # A Retina screen is 200 % too, but mss measures it in points, as Qt does.
        (Screen(1, 0, 0, 1440, 900), (1440, 900), (720, 450, 720, 450), (720, 450, 720, 450)),
        # A region counts from the corner of its own screen, wherever that lies.
        (LEFT, (1280, 720), (0, 0, 640, 360), (0, 0, 960, 540)),
        # Drawn beyond the edges.
        (PRIMARY, (2560, 1440), (2500, -5, 100, 50), (2500, 0, 60, 45)),
    ],
)
def test_a_region_is_in_the_units_of_its_screen(
    screen: Screen, size: tuple[int, int], drawn: tuple[int, int, int, int], region: tuple[int, int, int, int]
):
    assert region_on(screen, size, drawn) == region


@given(
    pixels=st.integers(640, 8000),
    scale=st.sampled_from([1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0]),
    left=st.floats(0, 1),
    width=st.floats(0, 1),
)
def test_whatever_is_drawn_lies_on_the_screen_and_reaches_its_edge(
    pixels: int, scale: float, left: float, width: float
):
    points = round(pixels / scale)
    screen = Screen(1, 0, 0, pixels, pixels)
    x = round(left * points)
    wide = round(width * (points - x))
    found, _, found_wide, _ = region_on(screen, (points, points), (x, 0, wide, points))
    assert 0 <= found <= found + found_wide <= pixels
    next_to_it = region_on(screen, (points, points), (x + wide, 0, points - x - wide, points))
    assert next_to_it[0] == found + found_wide, "regions that share an edge"
    assert next_to_it[0] + next_to_it[2] == pixels, "to the edge of the screen"
