"""Motion between frames and pictures carried along it: identity, translation, cuts, accidents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.reprojection.flow import FlowEstimator, Motion, checked, compose, rest, small_grey
from app.reprojection.track import KEPT_FRAMES, Track
from app.reprojection.warp import carry
from tests.app.moving import SIDE, captured, distance, shifted, texture


def grey(picture: np.ndarray) -> np.ndarray:
    found = small_grey(picture.transpose(2, 0, 1).astype(np.float32) / 255)
    assert found is not None
    return found


def moved_by(x: float, y: float, side: int = SIDE) -> Motion:
    """Everything came from (x, y) pixels before."""
    return Motion(np.full((side, side, 2), (-x, -y), np.float32), np.ones((side, side), np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_motion_is_the_identity(dtype: type) -> None:
    picture = texture().astype(dtype)
    assert carry(picture, rest(40, 40)) is picture


@pytest.mark.parametrize("noise", [0, 3])
def test_what_stands_still_rests_even_under_noise(noise: int) -> None:
    rng = np.random.default_rng(1)
    still = texture()
    first, second = (np.clip(still + rng.normal(0, noise, still.shape), 0, 255).astype(np.uint8) for _ in range(2))
    motion = FlowEstimator().measure(grey(first), grey(second))
    assert (np.abs(motion.flow).max(axis=2) < 0.05).mean() > (0.8 if noise else 0.999)
    assert motion.reliable > 0.95


@settings(max_examples=25, deadline=None)
@given(x=st.integers(-20, 20), y=st.integers(-20, 20), scale=st.sampled_from([1, 2]))
def test_a_translation_is_carried_exactly_inside_the_picture(x: int, y: int, scale: int) -> None:
    picture = texture(side=SIDE * scale)
    found = carry(picture, moved_by(x, y))
    wanted = shifted(picture, x * scale, y * scale)
    inner = slice(21 * scale, -21 * scale)
    assert np.array_equal(found[inner, inner], wanted[inner, inner])


@pytest.mark.parametrize(("x", "y"), [(3, 0), (-5, 4), (0, 9)])
def test_a_measured_translation_brings_the_picture_to_its_place(x: int, y: int) -> None:
    scene, painted = texture(2), texture(3)
    motion = FlowEstimator().measure(grey(scene), grey(shifted(scene, x, y)))
    wanted = shifted(painted, x, y)
    assert distance(carry(painted, motion), wanted) < 0.15 * distance(painted, wanted)


def test_two_motions_compose_to_their_sum() -> None:
    both = compose(moved_by(3, 1), moved_by(-1, 4))
    assert np.allclose(both.flow[20:-20, 20:-20], (-2, -5))
    assert np.array_equal(compose(rest(SIDE, SIDE), moved_by(2, 2)).flow, moved_by(2, 2).flow)
    assert np.array_equal(compose(moved_by(2, 2), rest(SIDE, SIDE)).flow, moved_by(2, 2).flow)


def test_a_pixel_that_came_from_outside_is_not_trusted() -> None:
    far = compose(moved_by(30, 0), moved_by(30, 0))
    assert far.confidence[80, 20] == 0
    assert far.confidence[80, 120] == 1


def test_an_uncovered_place_is_trusted_less() -> None:
    wall, box = texture(4), texture(5)
    first, second = wall.copy(), wall.copy()
    first[50:110, 40:100] = second[50:110, 60:120] = box[50:110, 40:100]
    motion = FlowEstimator().measure(grey(first), grey(second))
    uncovered, elsewhere = motion.confidence[58:102, 44:56].mean(), motion.confidence[120:, :].mean()
    assert uncovered < 0.5 < 0.95 < elsewhere


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9, -1e30])
@pytest.mark.parametrize("everywhere", [True, False])
def test_accidents_never_leave_the_picture_black(value: float, everywhere: bool) -> None:
    picture = texture()
    flow = np.zeros((40, 40, 2), np.float32)
    flow[slice(None) if everywhere else slice(10, 20)] = value
    raw = Motion(flow, np.full((40, 40), np.nan if everywhere else 1, np.float32))
    for fade in (True, False):
        for exact in (True, False):
            assert carry(picture, raw, fade=fade, exact=exact).min() >= 40
    motion = checked(flow, np.ones((40, 40), np.float32))
    assert np.isfinite(motion.flow).all()
    assert motion.confidence.min() == 0
    assert carry(picture, motion).min() >= 40


def test_a_cut_has_no_motion() -> None:
    track = Track()
    first, second, cut, after = (captured(i, texture(seed)) for i, seed in enumerate((0, 0, 9, 9)))
    assert track.between(first, second) is not None
    assert track.between(second, cut) is None
    assert track.between(first, after) is None
    assert track.between(cut, after) is not None


def test_a_frame_that_was_left_out_is_taken_in_where_it_belongs() -> None:
    scene = texture(6)
    frames = [captured(i, shifted(scene, 3 * i, 0)) for i in range(4)]
    track = Track()
    for i in (0, 2, 3):
        track.add(frames[i])
    for start, way in ((0, 9), (1, 6)):  # frame 1 comes late
        motion = track.between(frames[start], frames[3])
        assert motion is not None
        assert np.median(motion.flow[40:-40, 40:-40, 0]) == pytest.approx(-way, abs=0.3)


def test_a_track_stays_small_and_starts_anew_at_another_size() -> None:
    track, scene = Track(), texture()
    frames = [captured(i, scene) for i in range(KEPT_FRAMES + 5)]
    for frame in frames:
        assert track.add(frame)
    assert track.between(frames[0], frames[-1]) is None  # forgotten long ago
    wider = captured(100, np.ascontiguousarray(scene[:120]))
    assert track.add(wider)
    assert track.between(frames[-1], wider) is None
    assert not track.add(captured(101, scene[:16, :16]))  # too small to see anything move
    assert not Track().add(frames[0].__class__(0, 0.0, scene))  # no tensor
