"""Rectangles around what changed, and the windows that networks are run on."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.sparse.rectangles import MAX_RECTANGLES, cover, filled, grown, scaled, window_around


def area(rectangles: tuple[tuple[int, int, int, int], ...]) -> int:
    return sum((right - left) * (bottom - top) // 64 for left, top, right, bottom in rectangles)


def test_all_that_is_active_is_covered_by_few_rectangles_that_are_apart() -> None:
    random = np.random.default_rng(0)
    for density in (0.001, 0.01, 0.1, 0.6):
        for shape in ((64, 64), (1, 7), (13, 5), (45, 80)):
            active = random.random(shape) < density
            found = cover(active)
            covered = filled(found, shape[0] * 8, shape[1] * 8)
            assert len(found) <= MAX_RECTANGLES
            assert not (active & ~covered).any()
            assert covered.sum() == area(found), "two rectangles lie over each other"


def test_nothing_is_covered_by_nothing_and_everything_by_one() -> None:
    assert cover(np.zeros((8, 8), bool)) == ()
    assert cover(np.ones((8, 9), bool)) == ((0, 0, 72, 64),)
    assert filled(None, 60, 20).all()


def test_blobs_far_apart_and_a_diagonal_are_not_taken_as_one() -> None:
    blobs = np.zeros((64, 64), bool)
    blobs[2:6, 2:6] = blobs[50:54, 4:8] = blobs[8:12, 50:54] = blobs[56:60, 56:60] = True
    assert area(cover(blobs)) == 64
    near = np.zeros((64, 64), bool)
    near[10:14, 10:14] = near[10:14, 16:20] = True
    assert len(cover(near)) == 1, "their halos would lie over each other"
    assert area(cover(np.eye(64, dtype=bool))) < 64 * 64 / 3


def test_rectangles_of_a_source_are_rounded_to_blocks_and_cut_at_the_borders() -> None:
    outside = ((-50, -50, -1, -1), (5000, 0, 6000, 10), (8, 8, 8, 30), (-4, 120, 3, 999))
    assert np.argwhere(filled(outside, 128, 160)).tolist() == [[15, 0]]
    assert np.argwhere(filled(((100, 10, 101, 11),), 128, 160)).tolist() == [[1, 12]]
    assert grown((0, 8, 16, 16), 8, 20, 18) == (0, 0, 20, 18)
    assert scaled((7, 8, 9, 17), 8) == (0, 1, 2, 3)


@pytest.mark.parametrize("align", [1, 4, 8])
def test_a_window_holds_its_rectangle_begins_aligned_and_has_a_known_shape(align: int) -> None:
    random = np.random.default_rng(align)
    sides = (16, 24, 40)
    for _ in range(300):
        width, height = random.integers(5, 80, 2)
        left, top = random.integers(0, width), random.integers(0, height)
        right, bottom = random.integers(left, width) + 1, random.integers(top, height) + 1
        found = window_around((left, top, right, bottom), width, height, align, sides)
        assert 0 <= found[0] <= left < right <= found[2] <= width
        assert 0 <= found[1] <= top < bottom <= found[3] <= height
        assert found[0] % align == found[1] % align == 0
        for first, end, limit in ((found[0], found[2], width), (found[1], found[3], height)):
            known = {*sides, limit, *(side + limit % align for side in sides)}
            assert end - first in known
