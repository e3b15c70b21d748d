"""Filters are deterministic, differ plainly, keep their shape, and draw nothing on plain ground."""

import numpy as np
import pytest

from assets.training.filters import FILTERS
from assets.training.prompts import STYLE_IDS
from assets.training.teachers import style_names
from assets.training.tints import tint
from assets.training.vocabulary import TINTS


def _scene() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    picture = np.stack([x * 4, y * 4, 255 - x * 2], 2).astype(np.uint8)
    picture[(x - 32) ** 2 + (y - 32) ** 2 < 200] = (220, 180, 150)
    return picture


@pytest.mark.parametrize("style", FILTERS)
def test_filter_is_deterministic_and_keeps_shape(style: str) -> None:
    scene = _scene()
    before = scene.copy()
    once, again = FILTERS[style](scene), FILTERS[style](scene)
    assert once.shape == scene.shape
    assert once.dtype == np.uint8
    assert (once == again).all()
    assert (scene == before).all()
    assert np.abs(once.astype(int) - scene).mean() > 4


@pytest.mark.parametrize("style", FILTERS)
def test_plain_ground_stays_plain(style: str) -> None:
    """A regular pattern there could not be learned by a network of convolutions."""
    ground = np.full((64, 64, 3), (120, 140, 160), np.uint8)
    assert np.ptp(FILTERS[style](ground).reshape(-1, 3), axis=0).max() <= 2


def test_filters_differ_from_each_other() -> None:
    made = {style: draw(_scene()).astype(int) for style, draw in FILTERS.items()}
    names = list(made)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert np.abs(made[name] - made[other]).mean() > 4, (name, other)


def test_every_style_has_words_and_a_teacher() -> None:
    assert set(style_names()) == set(STYLE_IDS)


def test_tints() -> None:
    scene = _scene()
    assert (tint("none", scene) == scene).all()
    grey = tint("bw", scene)
    assert (np.ptp(grey, axis=2) == 0).all()
    warm, cold = tint("warm", scene).astype(int), tint("cold", scene).astype(int)
    assert (warm[..., 0] - warm[..., 2]).mean() > (cold[..., 0] - cold[..., 2]).mean() + 40
    assert len({tint(name, scene).tobytes() for name in TINTS}) == len(TINTS)
    with pytest.raises(ValueError, match="unknown tint"):
        tint("green", scene)
