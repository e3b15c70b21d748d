"""Which part of a picture changed: over dropped frames, and through crop, resize and mirror."""

from __future__ import annotations

import numpy as np
import pytest

from app.capture import prepare
from app.changes import KEPT_STEPS, MOST_RECTANGLES, Changes, Rectangle, gathered, in_tensor


def test_changes_add_up_over_frames_that_were_dropped():
    one, other = Rectangle(0, 0, 4, 4), Rectangle(10, 10, 2, 2)
    last = Changes(0).followed_by([one]).followed_by([]).followed_by([other])
    assert last.index == 3
    assert last.since(3) == ()
    assert last.since(2) == (other,)
    assert last.since(1) == (other,)
    assert last.since(0) == (one, other)
    assert last.since(4) is None


def test_a_step_of_which_nothing_is_known_hides_all_before_it():
    last = Changes(0).followed_by([Rectangle(0, 0, 1, 1)]).followed_by(None).followed_by([])
    assert last.since(2) == ()
    assert last.since(1) is None


def test_the_memory_of_changes_is_bounded():
    last = Changes(0)
    for _ in range(3 * KEPT_STEPS):
        last = last.followed_by([])
    assert len(last.steps) == KEPT_STEPS
    assert last.since(last.index - KEPT_STEPS) == ()
    assert last.since(last.index - KEPT_STEPS - 1) is None


def test_gathering_keeps_the_area_in_few_rectangles():
    rng = np.random.default_rng(4)
    places = [Rectangle(int(rng.integers(40)), int(rng.integers(40)), 5, 3) for _ in range(200)]
    few = gathered(places)
    assert 0 < len(few) <= MOST_RECTANGLES
    assert not (_mask(places, 50, 50) & ~_mask(few, 50, 50)).any()
    assert gathered([Rectangle(0, 0, 9, 9), Rectangle(1, 1, 2, 2), Rectangle(0, 0, 9, 9)]) == (Rectangle(0, 0, 9, 9),)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (128, 72), (200, 64), (320, 320), (100, 60)])
def test_outside_of_the_mapped_rectangles_the_tensor_is_the_same(fit: str, mirror: bool, size: tuple[int, int]):
    rng = np.random.default_rng(1)
    before = rng.integers(0, 256, (60, 100, 3)).astype(np.uint8)
    for _ in range(6):
        x, y = (int(value) for value in rng.integers(0, 50, 2))
        area = Rectangle(x, y, int(rng.integers(1, 40)), int(rng.integers(1, 9)))
        after = before.copy()
        after[area.y : area.bottom, area.x : area.right] = 255 - after[area.y : area.bottom, area.x : area.right]
        differs = (prepare(before, *size, fit, mirror) != prepare(after, *size, fit, mirror)).any(dim=0).numpy()
        mapped = in_tensor([area], (100, 60), size, fit, mirror)
        mask = _mask(mapped, *size)
        assert not (differs & ~mask).any()
        # Not just everything: a few pixels around what differs at the most.
        assert mask.sum() <= (differs.sum() ** 0.5 + 20) ** 2 * 4


def _mask(rectangles, width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for one in rectangles:
        mask[one.y : one.bottom, one.x : one.right] = True
    return mask
