"""Steadiness: a still scene comes to rest, and nothing lives on that is not there any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from app.frame import Frame
from app.reprojection.track import Track
from app.settings import Settings
from app.steadiness import Steadier
from pipeline.config import StreamConfig
from tests.app.moving import SIDE, captured, shifted, texture

STEADY = Settings(stream=StreamConfig(prompt="a wall"), steadiness=1.0)
PAINTED = texture(3)


def boiling(index: int, amount: float = 12) -> np.ndarray:
    """A painting with other brush strokes in every frame."""
    noise = np.random.default_rng(index).normal(0, amount, PAINTED.shape)
    return np.clip(PAINTED + noise, 0, 255).astype(np.uint8)


def noisy(index: int, picture: np.ndarray, amount: float = 2) -> Frame:
    """A camera frame with sensor noise."""
    noise = np.random.default_rng(1000 + index).normal(0, amount, picture.shape)
    return captured(index, np.clip(picture + noise, 0, 255).astype(np.uint8))


def flicker(pictures: list[np.ndarray]) -> float:
    """Mean change from picture to picture, in grey levels."""
    steps = [np.abs(a.astype(float) - b).mean() for a, b in pairwise(pictures)]
    return float(np.mean(steps))


def far_from(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_without_steadiness_the_picture_is_untouched() -> None:
    steadier, off = Steadier(Track()), replace(STEADY, steadiness=0.0)
    for index in range(3):
        pixels = boiling(index)
        assert steadier(pixels, captured(index, texture()), off) is pixels


def test_a_still_scene_stops_boiling() -> None:
    steadier, scene = Steadier(Track()), texture()
    off = [boiling(index) for index in range(24)]
    on = [steadier(pixels, noisy(index, scene), STEADY) for index, pixels in enumerate(off)]
    assert flicker(on[8:]) < 0.25 * flicker(off[8:])


def test_half_the_strength_holds_half_as_fast() -> None:
    found = []
    for strength in (0.3, 0.6, 1.0):
        steadier = Steadier(Track())
        now = replace(STEADY, steadiness=strength)
        found.append(flicker([steadier(boiling(i), captured(i, texture()), now) for i in range(12)][4:]))
    assert found[0] > found[1] > found[2]


def test_a_still_scene_converges_to_what_the_model_makes_of_it() -> None:
    steadier = Steadier(Track())
    steadier(255 - PAINTED, captured(0, texture()), STEADY)
    way = [far_from(steadier(PAINTED, captured(i, texture()), STEADY), PAINTED) for i in range(1, 60)]
    assert way[0] > 30
    assert all(later <= earlier for earlier, later in pairwise(way))
    assert way[-1] < 0.08 * way[0]


def test_a_moving_edge_leaves_no_ghost() -> None:
    """A bright box crosses a dark wall; where it has been, the wall is as it was."""
    steadier = Steadier(Track())
    wall = (texture(8) // 3).astype(np.uint8)
    shown, scene, left = wall, wall, 0
    for index in range(12):
        scene = wall.copy()
        left = 10 + 9 * index
        scene[50:110, left : left + 30] = 230
        shown = steadier(scene, captured(index, scene), STEADY)  # a model that paints what it sees
    before = slice(20, 10 + 9 * 11 - 6)
    assert far_from(shown[56:104, before], wall[56:104, before]) < 2
    assert np.abs(shown[56:104, before].astype(int) - wall[56:104, before]).max() < 60  # the box is 150 levels above
    assert far_from(shown[56:104, left + 6 : left + 24], scene[56:104, left + 6 : left + 24]) < 4


def test_a_slow_change_of_light_is_followed() -> None:
    steadier = Steadier(Track())
    shown = scene = texture()
    for index in range(0, 60, 2):
        scene = np.clip(texture() * 0.5 + index, 0, 255).astype(np.uint8)
        shown = steadier(scene, captured(index, scene), STEADY)
    assert far_from(shown, scene) < 10


CHANGES: dict[str, Callable[[Settings], Settings]] = {
    "prompt": lambda now: replace(now, stream=replace(now.stream, prompt="a sea")),
    "strength": lambda now: replace(now, stream=replace(now.stream, strength=0.3)),
    "seed": lambda now: replace(now, stream=replace(now.stream, seed=5)),
    "model": lambda now: replace(now, model="another"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_look_lets_go_at_once(what: str) -> None:
    steadier = Steadier(Track())
    for index in range(4):
        steadier(PAINTED, captured(index, texture()), STEADY)
    other = 255 - PAINTED
    assert steadier(other, captured(4, texture()), CHANGES[what](STEADY)) is other


def test_a_change_of_the_filter_does_not() -> None:
    steadier = Steadier(Track())
    steadier(PAINTED, captured(0, texture()), STEADY)
    filtered = replace(STEADY, stream=replace(STEADY.stream, similarity_filter=True))
    assert far_from(steadier(255 - PAINTED, captured(1, texture()), filtered), PAINTED) < 20


def test_a_transition_is_over_before_anything_is_held() -> None:
    steadier = Steadier(Track())
    steadier(PAINTED, captured(0, texture(), fps=10), STEADY)
    turning = replace(STEADY, stream=replace(STEADY.stream, prompt="a sea", transition=1.0))
    for index in range(1, 11):
        pixels = boiling(index)
        assert steadier(pixels, captured(index, texture(), fps=10), turning) is pixels
    steadier(PAINTED, captured(11, texture(), fps=10), turning)
    assert far_from(steadier(255 - PAINTED, captured(12, texture(), fps=10), turning), PAINTED) < 20


def test_a_cut_lets_go_at_once() -> None:
    steadier = Steadier(Track())
    for index in range(4):
        steadier(PAINTED, captured(index, texture()), STEADY)
    other = 255 - PAINTED
    assert steadier(other, captured(4, texture(20)), STEADY) is other


def test_what_moves_stays_in_its_place_and_sharp() -> None:
    steadier = Steadier(Track())
    shown, painted = PAINTED, PAINTED
    for index in range(10):
        painted = shifted(PAINTED, 2 * index, 0)
        shown = steadier(painted, captured(index, shifted(texture(), 2 * index, 0)), STEADY)
    inner = slice(24, SIDE - 24)
    assert far_from(shown[inner, inner], painted[inner, inner]) < 3


def test_another_size_and_a_frame_without_a_tensor_are_no_error() -> None:
    steadier = Steadier(Track())
    steadier(PAINTED, captured(0, texture()), STEADY)
    small = texture(1, 64)
    assert steadier(small, captured(1, small), STEADY) is small
    assert steadier(small, Frame(2, 1.0, small), STEADY) is small
    tiny = np.zeros((8, 16, 3), np.uint8)
    assert steadier(tiny, captured(3, tiny), STEADY) is tiny
    assert steadier(tiny, captured(4, tiny), STEADY) is tiny
