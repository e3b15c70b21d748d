"""The test card: the same for the same seed, and its number can be read back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from app.sources import SourceError
from app.sources.testcard import TestCardSource, read_index
from tests.app.media import assert_close_ends_a_read, frames_of


def test_the_same_seed_gives_the_same_pictures():
    one, same, other = (TestCardSource(seed=seed, width=96, height=64) for seed in (3, 3, 4))
    assert np.array_equal(one.picture(17), same.picture(17))
    assert not np.array_equal(one.picture(17), other.picture(17))
    assert not np.array_equal(one.picture(17), one.picture(18))


@pytest.mark.parametrize("size", [(32, 24), (64, 48), (131, 97), (640, 480)])
@pytest.mark.parametrize("index", [0, 1, 299, 40_961, 65_535])
def test_the_index_can_be_read_back_from_the_pixels(size: tuple[int, int], index: int):
    width, height = size
    assert read_index(TestCardSource(width=width, height=height).picture(index)) == index


def test_the_index_survives_a_resize():
    picture = TestCardSource(width=640, height=480).picture(12_345)
    assert read_index(cv2.resize(picture, (128, 96), interpolation=cv2.INTER_AREA)) == 12_345


def test_a_card_of_some_frames_ends_after_them():
    frames = list(frames_of(TestCardSource(width=64, height=48, fps=10, frames=5)))
    assert [read_index(frame.pixels) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.media_time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_live_card_keeps_to_the_clock():
    source = TestCardSource(width=64, height=48, fps=100, live=True)
    source.open()
    frames = [source.read() for _ in range(6)]
    source.close()
    captured = [frame.captured_at for frame in frames if frame]
    assert len(captured) == 6
    assert captured[-1] - captured[0] >= 5 / 100 - 0.005
    assert frames[0] is not None
    assert frames[0].media_time is None


def test_close_ends_the_wait():
    source = TestCardSource(width=64, height=48, fps=0.001, live=True)
    assert_close_ends_a_read(source)


@pytest.mark.parametrize("bad", [{"width": 8}, {"height": 0}, {"fps": 0}, {"frames": -1}, {"seed": -1}])
def test_impossible_cards_are_refused(bad: dict):
    with pytest.raises(SourceError, match="test card"):
        TestCardSource(**bad)
