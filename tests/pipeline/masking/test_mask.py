"""Masks grow, soften and stay steady as their settings say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pipeline.masking.mask import Memory, blurred, feathered, grown, steadied


def square(side: int = 64, *, left: int = 20, right: int = 40) -> torch.Tensor:
    """(1, 1, side, side): 1 between ``left`` and ``right``, both ways."""
    mask = torch.zeros(1, 1, side, side)
    mask[..., left:right, left:right] = 1
    return mask


@pytest.mark.parametrize(("pixels", "expected"), [(0, 20), (3, 26), (7, 34), (-4, 12), (-10, 0)])
def test_growth_moves_the_outline_by_its_pixels(pixels: int, expected: int) -> None:
    found = grown(square(), pixels, pixels)
    assert found.sum() == expected**2
    assert set(found.unique().tolist()) <= {0.0, 1.0}


def test_growth_may_be_of_parts_of_pixels_and_differ_by_side() -> None:
    found = grown(square(), 1.5, 0.0)
    assert float(found[0, 0, 30].sum()) == pytest.approx(23)
    assert float(found[0, 0, :, 30].sum()) == pytest.approx(20)
    assert float(grown(square(), -1.5, 0.0)[0, 0, 30].sum()) == pytest.approx(17)


def test_growth_is_a_maximum_over_a_square() -> None:
    mask = torch.rand(2, 1, 30, 41)
    assert torch.equal(grown(mask, 5, 5), F.max_pool2d(mask, 11, 1, 5))


def test_feather_softens_the_outline_over_its_pixels_and_leaves_the_rest() -> None:
    row = feathered(square(), 6, 6)[0, 0, 30]
    between = (row > 0) & (row < 1)
    assert int(between.sum()) == 2 * 6
    assert float(row.sum()) == pytest.approx(20, abs=1e-4)
    assert torch.equal(feathered(square(), 0, 0), square())
    assert torch.allclose(feathered(torch.ones(1, 1, 20, 20), 7.3, 2), torch.ones(1, 1, 20, 20))


@pytest.mark.parametrize("deviation", [1.5, 4.0, 12.0])
def test_blur_has_its_deviation_and_keeps_what_is_even(deviation: float) -> None:
    point = torch.zeros(1, 1, 241, 241)
    point[..., 120, 120] = 1
    found = blurred(point, deviation)[0, 0].double()
    places = torch.arange(241) - 120.0
    middle = float((found.sum(0) * places).sum())
    assert float(found.sum()) == pytest.approx(1, abs=1e-3)
    assert float((found.sum(0) * (places - middle) ** 2).sum()) ** 0.5 == pytest.approx(deviation, rel=0.15)
    assert torch.allclose(blurred(torch.full((1, 3, 50, 61), 0.25), deviation), torch.tensor(0.25), atol=1e-5)


def test_what_stands_still_keeps_its_mask_and_what_changes_has_its_own() -> None:
    still, doubted = torch.full((1, 3, 64, 64), 0.5), square(left=20, right=44)
    memory = Memory(square(), F.avg_pool2d(still, 4))
    kept, _ = steadied(doubted, still, memory, 1.0)
    assert float((kept - square()).abs().max()) < 0.06  # the network changed its mind where nothing has changed
    moved = still.clone()
    moved[..., 36:48, 36:48] = 0.9
    followed, _ = steadied(doubted, moved, memory, 1.0)
    assert torch.allclose(followed[..., 40:44, 40:44], torch.ones(()))
    assert float((kept - followed).abs()[..., :28, :28].max()) < 1e-6  # elsewhere it is as before
    assert torch.equal(steadied(doubted, still, memory, 0.0)[0], doubted)


def test_a_slow_change_adds_up_until_it_is_seen() -> None:
    memory = Memory(torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 16, 16))
    light, mask = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    for _ in range(15):
        light = light + 2 / 255  # less than is taken for noise
        mask, memory = steadied(torch.ones(1, 1, 64, 64), light, memory, 1.0)
    assert float(mask.min()) > 0.9


def test_frames_of_one_call_follow_each_other() -> None:
    masks, squares = torch.rand(3, 1, 64, 64), torch.rand(1, 3, 64, 64).repeat(3, 1, 1, 1)
    together, after = steadied(masks, squares, None, 0.7)
    memory, one_by_one = None, []
    for mask, seen in zip(masks.split(1), squares.split(1), strict=True):
        steady, memory = steadied(mask, seen, memory, 0.7)
        one_by_one.append(steady)
    assert memory is not None
    assert torch.equal(together, torch.cat(one_by_one))
    assert torch.equal(after.mask, memory.mask)
    assert after.mask.shape == (1, 1, 64, 64)
