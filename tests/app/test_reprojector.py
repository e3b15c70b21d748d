"""Which picture is carried where, and when none is."""

from __future__ import annotations

import numpy as np
import pytest

from app.frame import Frame
from app.reprojection.reprojector import Picture, Reprojector
from app.reprojection.track import Track
from tests.app.moving import captured, distance, shifted, texture

STEP = 3  # pixels a frame
SCENE, PAINTED = texture(1), texture(2)


def frame(index: int) -> Frame:
    return captured(index, shifted(SCENE, STEP * index, 0))


def painted(index: int) -> np.ndarray:
    return shifted(PAINTED, STEP * index, 0)


def shows(picture: Picture | None, index: int) -> bool:
    """Whether it shows the moment of frame ``index``."""
    assert picture is not None
    wanted = painted(index)
    return picture.frame.index == index and distance(picture.pixels, wanted, 32) < 0.3 * distance(
        painted(index - 1), wanted, 32
    )


@pytest.fixture
def reprojector() -> Reprojector:
    return Reprojector(Track())


@pytest.mark.parametrize(("mode", "from_lag"), [("on", 1), ("auto", 2), ("off", 99)])
def test_pictures_are_carried_from_the_lag_that_the_mode_asks_for(
    reprojector: Reprojector, mode: str, from_lag: int
) -> None:
    reprojector.seen(frame(0), mode)
    assert reprojector.styled(painted(0), frame(0), mode).pixels is not None
    for lag in (1, 2, 3):
        carried = reprojector.seen(frame(lag), mode)
        assert (carried is not None) == (lag >= from_lag)
        if carried is not None:
            assert shows(carried, lag)


def test_a_late_picture_is_carried_forward_to_now(reprojector: Reprojector) -> None:
    for index in range(4):
        assert reprojector.seen(frame(index), "on") is None  # there is no picture yet
    assert shows(reprojector.styled(painted(1), frame(1), "on"), 3)
    assert shows(reprojector.seen(frame(4), "on"), 4)


def test_a_picture_in_time_is_shown_as_it_is(reprojector: Reprojector) -> None:
    now = frame(0)
    reprojector.seen(now, "on")
    pixels = painted(0)
    assert reprojector.styled(pixels, now, "on").pixels is pixels


def test_the_newest_picture_takes_the_place_of_the_one_before(reprojector: Reprojector) -> None:
    for index in range(3):
        reprojector.seen(frame(index), "on")
    reprojector.styled(painted(0), frame(0), "on")
    other = texture(7)
    reprojector.styled(shifted(other, STEP * 2, 0), frame(2), "on")
    carried = reprojector.seen(frame(3), "on")
    assert carried is not None
    assert distance(carried.pixels, shifted(other, STEP * 3, 0), 32) < distance(carried.pixels, painted(3), 32)


def test_a_real_picture_goes_first(reprojector: Reprojector) -> None:
    reprojector.styled(painted(0), frame(0), "on")
    assert reprojector.seen(frame(1), "on", overtaken=lambda: True) is None


def test_nothing_is_carried_over_a_cut(reprojector: Reprojector) -> None:
    reprojector.styled(painted(0), frame(0), "on")
    assert reprojector.seen(frame(1), "on") is not None
    after = captured(2, texture(30))
    assert reprojector.seen(after, "on") is None
    assert reprojector.seen(captured(3, texture(30)), "on") is None
    late = painted(1)
    assert reprojector.styled(late, frame(1), "on").pixels is late  # from before the cut: as it is
    assert reprojector.styled(painted(2), after, "on").frame.index == 3
    assert reprojector.seen(captured(4, texture(30)), "on") is not None


def test_a_skipped_frame_is_shown_by_carrying_the_picture_before(reprojector: Reprojector) -> None:
    reprojector.styled(painted(0), frame(0), "on")
    for index in (1, 2):
        reprojector.seen(frame(index), "on")
    # The similarity filter answers frame 2 with the picture of frame 0.
    assert shows(reprojector.styled(painted(0), frame(2), "on", same=True), 2)
    assert shows(reprojector.seen(frame(3), "on"), 3)


def test_another_source_starts_anew(reprojector: Reprojector) -> None:
    reprojector.styled(painted(5), frame(5), "on")
    reprojector.reset()
    assert reprojector.seen(frame(6), "on") is None


def test_frames_without_a_tensor_are_left_alone(reprojector: Reprojector) -> None:
    bare = Frame(0, 0.0, SCENE)
    pixels = painted(0)
    assert reprojector.styled(pixels, bare, "on").pixels is pixels
    assert reprojector.seen(bare, "on") is None
    assert reprojector.seen(frame(1), "on") is None
