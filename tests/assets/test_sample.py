"""The sample clip: what the demo shows and the benchmarks count on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from app.sources.video import VideoSource
from assets.sample import clip_path
from assets.sample.render import FPS
from assets.sample.scene import SECONDS, Scene, still
from tests.app.media import frames_of


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    return [frame.pixels for frame in frames_of(VideoSource(clip_path()))]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_the_clip_is_small_and_whole(clip: list[np.ndarray]):
    assert clip_path().stat().st_size < 1_500_000
    assert len(clip) == round(SECONDS * FPS) == 192
    assert clip[0].shape == (480, 640, 3)


def test_half_of_the_clip_is_still_and_the_rest_moves(clip: list[np.ndarray]):
    changes = [float(np.abs(after.astype(int) - before).mean()) for before, after in pairwise(clip)]
    quiet = [change < 0.05 for change in changes]
    assert sum(quiet) / len(quiet) == pytest.approx(0.5, abs=0.03)
    moving = [change for change, is_quiet in zip(changes, quiet, strict=True) if not is_quiet]
    assert np.median(moving) > 0.5


def test_the_clip_is_what_the_scene_draws(clip: list[np.ndarray], scene: Scene):
    for index in (0, 60, 130):
        drawn = scene.draw(index / FPS)
        assert np.abs(clip[index].astype(int) - drawn).mean() < 3


def test_still_means_still(scene: Scene):
    assert still(0.5)
    assert still(4.0)
    assert not still(2.0)
    assert np.array_equal(scene.draw(0.5), scene.draw(4.0))
    assert not np.array_equal(scene.draw(0.5), scene.draw(2.0))


def test_the_motion_of_every_layer_is_known(scene: Scene):
    rest, waving = scene.matrices(0.0), scene.matrices(5.5)
    assert set(rest) == {layer.name for layer in scene.layers}
    assert np.allclose(rest["head"], np.eye(3)[:2])
    assert not np.allclose(waving["hand"], rest["hand"])
    hidden, shown = scene.coverage("hand", 0.0), scene.coverage("hand", 5.5)
    assert hidden.max() == 0
    assert shown.sum() > 10_000
