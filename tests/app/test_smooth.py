"""Pictures in between: an even beat, the right moments, cuts, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.frame import Frame
from app.reprojection.smooth import SmoothSink
from tests.app.fakes import ListSink
from tests.app.moving import captured, distance, shifted, texture

SCENE, PAINTED = texture(1), texture(2)
STEP = 4  # pixels a frame


def styled(index: int, fps: float = 10, scene: np.ndarray = SCENE) -> Frame:
    """A styled frame of a scene that moves to the right."""
    original = captured(index, shifted(scene, STEP * index, 0), fps)
    painted = shifted(PAINTED if scene is SCENE else scene, STEP * index, 0)
    return Frame(index, original.captured_at, painted, media_time=index / fps, original=original)


def smoothed(frames: Sequence[Frame], fps: float) -> tuple[list[Frame], SmoothSink]:
    behind = ListSink()
    sink = SmoothSink(behind, fps)
    sink.open()
    for frame in frames:
        sink.write(frame)
    sink.close()
    assert (behind.opened, behind.closed) == (1, 1)
    return behind.frames, sink


@pytest.mark.parametrize("fps", [60, 25, 10, 4])
def test_the_beat_is_even_and_lasts_as_long_as_the_clip(fps: float) -> None:
    found, sink = smoothed([styled(index) for index in range(11)], fps)
    assert [frame.index for frame in found] == list(range(len(found)))
    times = [frame.media_time for frame in found]
    assert times == pytest.approx([index / fps for index in range(len(found))])
    assert len(found) == pytest.approx(1.1 * fps, abs=1)
    assert sum(frame.reprojected for frame in found) == sink.made


def test_the_models_own_pictures_are_given_as_they_are() -> None:
    frames = [styled(index) for index in range(4)]
    found, sink = smoothed(frames, 20)
    own = [frame for frame in found if not frame.reprojected]
    assert len(own) == 4
    assert all(one.pixels is frame.pixels for one, frame in zip(own, frames, strict=True))
    assert sink.made == len(found) - 4


def test_a_picture_in_between_shows_the_moment_in_between() -> None:
    found, _ = smoothed([styled(0), styled(1)], 20)
    halfway = found[1]
    assert halfway.reprojected
    wanted = shifted(PAINTED, STEP // 2, 0)
    assert distance(halfway.pixels, wanted) < 0.3 * distance(PAINTED, wanted)


def test_a_cut_is_a_cut() -> None:
    before, after = styled(0), styled(1, scene=texture(9))
    found, _ = smoothed([before, after], 40)
    for frame in found:
        assert frame.pixels is before.pixels or frame.pixels is after.pixels
    assert found[3].pixels is before.pixels


def test_a_long_gap_is_not_filled_with_inventions() -> None:
    frames = [styled(0, fps=1), styled(1, fps=1)]
    found, _ = smoothed(frames, 8)
    assert all(frame.pixels is frames[0].pixels for frame in found[:8])


def test_odd_times_are_no_error() -> None:
    one = styled(0)
    assert len(smoothed([one], 30)[0]) == 1
    assert smoothed([], 30)[0] == []
    backward = [styled(0), replace(styled(1), media_time=0.0), replace(styled(2), media_time=-1.0), styled(3)]
    found, _ = smoothed(backward, 20)
    times = [frame.media_time or 0 for frame in found]
    assert times == sorted(times)
    bare = [Frame(index, index / 10, PAINTED) for index in range(3)]  # live: no media time, and nothing to see
    assert len(smoothed(bare, 20)[0]) == pytest.approx(6, abs=1)


@pytest.mark.parametrize("fps", [0, -5, 1000, float("nan"), float("inf")])
def test_a_rate_that_makes_no_sense_is_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="between 1 and 240"):
        SmoothSink(ListSink(), fps)
