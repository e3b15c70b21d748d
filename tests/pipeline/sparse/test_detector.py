"""Change detection: noise is not change, and no change is lost."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import torch

from pipeline.sparse.detector import ChangeDetector
from pipeline.sparse.rectangles import cover, filled

SIGMA = 1 / 255


def scene(seed: int = 0, size: tuple[int, int] = (128, 160)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 10, generator=generator)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0] * 0.8 + 0.1


def noisy(picture: torch.Tensor, generator: torch.Generator, sigma: float = SIGMA) -> torch.Tensor:
    return (picture + sigma * torch.randn(picture.shape, generator=generator)).clamp(0, 1)


def seen(detector: ChangeDetector, frame: torch.Tensor) -> np.ndarray:
    """What changed, taken block by block."""
    if detector.reference is None:
        detector.take_all(frame)
        return np.ones((1, 1), bool)
    active = detector.look(frame)
    for row, column in np.argwhere(active):
        detector.take(frame, [(8 * column, 8 * row, 8 * column + 8, 8 * row + 8)])
    return active


def test_a_still_frame_has_not_changed() -> None:
    detector, picture = ChangeDetector(), scene()
    detector.take_all(picture)
    assert not seen(detector, picture).any()


def test_sensor_noise_is_no_change_once_its_floor_is_known() -> None:
    for sigma in (1 / 255, 3 / 255, 5 / 255):
        detector, generator, picture = ChangeDetector(), torch.Generator().manual_seed(1), scene()
        shares = [seen(detector, noisy(picture, generator, sigma)).mean() for _ in range(16)]
        assert max(shares[6:]) < 0.01, sigma
        assert 0.7 * sigma < detector.floor < 1.5 * sigma


def test_a_moving_object_is_found_and_little_else() -> None:
    detector, generator, picture = ChangeDetector(), torch.Generator().manual_seed(2), scene()
    for _ in range(6):
        seen(detector, noisy(picture, generator))
    for step in range(6):
        frame = picture.clone()
        left = 40 + 5 * step
        frame[:, 50:70, left : left + 20] = 0.5 - picture[:, 50:70, left : left + 20].round() * 0.5 + 0.3
        active = seen(detector, noisy(frame, generator))
        around = filled(((left - 5, 50, left + 20, 70),), *picture.shape[1:])
        assert active[around].mean() > 0.6
        assert active[~around].mean() < 0.05


def test_a_slow_change_adds_up_until_it_fires() -> None:
    """1/255 a frame is below every threshold; against the frame before it would never be seen."""
    detector, picture = ChangeDetector(), scene()
    seen(detector, picture)
    frame, fired = picture.clone(), 0
    for _ in range(16):
        frame[:, 32:64, 32:64] += 1 / 255
        fired += int(seen(detector, frame).any())
        assert (detector.picture - frame).abs().max() < 6 / 255
    assert 2 <= fired <= 11


def test_movement_does_not_teach_a_noise_floor() -> None:
    detector, picture = ChangeDetector(), scene(3)
    for step in range(20):
        frame = picture.clone()
        frame[:, :, 40:] = torch.roll(picture[:, :, 40:], 7 * step, 2)
        seen(detector, frame)
    assert detector.floor < 1 / 255


def test_hysteresis_holds_what_is_active() -> None:
    detector, picture = ChangeDetector(), scene()
    seen(detector, picture)
    bump = picture.clone()
    bump[:, 32:64, 32:64] += 8 / 255
    assert seen(detector, bump).sum() == 16
    bump[:, 32:64, 32:64] += 3 / 255  # alone it would not fire
    assert seen(detector, bump).sum() == 16
    assert seen(detector, bump).sum() == 0
    bump[:, 32:64, 32:64] += 3 / 255
    assert seen(detector, bump).sum() == 0


def test_the_reference_is_the_frame_last_processed_there() -> None:
    detector, picture = ChangeDetector(), scene(size=(100, 92))  # not divisible by the block
    seen(detector, picture)
    frame = picture.clone()
    frame[:, :20, :20] = 1
    frame[:, 96:, 88:] = 0
    frame[:, 60, 60] += 1 / 255
    active = seen(detector, frame)
    assert active.shape == (13, 12)
    mask = torch.from_numpy(active.repeat(8, 0).repeat(8, 1)[:100, :92])
    assert torch.equal(detector.picture, torch.where(mask, frame, picture))
    assert active[0, 0]
    assert active[-1, -1]
    assert not active[7, 7]


def test_a_line_of_one_pixel_is_seen_within_three_frames() -> None:
    for line, before in product((64, 65), range(4)):
        detector, picture = ChangeDetector(), scene()
        detector.take_all(picture)
        for _ in range(before):
            detector.look(picture)
        frame = picture.clone()
        frame[:, line, 20:60] = 1
        assert any(detector.look(frame).any() for _ in range(3))


def seen_left_and_right(moves: bool, height: int = 32) -> list[tuple[bool, bool]]:
    """Of two parts that become a little brighter in each frame, which are seen; between them something may move."""
    detector, found = ChangeDetector(), []
    for number in range(9):
        frame = torch.full((3, 128, 160), 0.2)
        frame[:, :height, 8:64] += 7 / 255 * number
        frame[:, :height, 104:152] += 7 / 255 * number
        if moves:
            frame[:, 64:96, 72:88] += 0.3 * (number % 2)
        if number == 0:
            detector.take_all(frame)
            continue
        active = detector.look(frame)
        detector.take(frame, cover(active))
        assert active[8:12, 9:11].all() == moves
        found.append((bool(active[:4, 1:8].any()), bool(active[:4, 13:19].any())))
    return found


def test_beside_what_moves_small_changes_are_seen_in_half_of_the_picture_at_a_time() -> None:
    sides = seen_left_and_right(moves=True)[1:]  # where the halves meet is found in the first frame
    assert all(left != right for left, right in sides)
    assert all(before != after for before, after in pairwise(sides))


def test_small_changes_are_seen_at_once_where_nothing_moves_or_much_does() -> None:
    assert set(seen_left_and_right(moves=False)) == {(True, True)}
    assert set(seen_left_and_right(moves=True, height=64)) == {(True, True)}


def test_one_line_of_a_change_in_the_next_block_is_seen_at_once() -> None:
    """Whichever lines the frame is looked at by: else the picture would lag there in every other frame."""
    detector, picture = ChangeDetector(), scene()
    detector.take_all(picture)
    for number in range(4):
        frame = picture.clone()
        frame[:, 23:33, 24:56] = (picture[:, 23:33, 24:56] + 0.2 + 0.05 * number) % 1
        detector.take(frame, cover(detector.look(frame)))
        assert torch.equal(detector.picture, frame)


def test_another_size_begins_anew() -> None:
    detector = ChangeDetector()
    detector.take_all(scene())
    other = scene(1, (64, 96))
    detector.take_all(other)
    assert torch.equal(detector.picture, other)
    assert detector.look(other).shape == (8, 12)
