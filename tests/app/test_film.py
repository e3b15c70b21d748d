"""What a picture means: how it lies, what its numbers stand for, which of a file's streams it is; and even sound."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from app.media.dynamic_range import BT2020, DISPLAY_P3, HLG, PQ, is_beyond, to_sdr
from app.media.orientation import IDENTITY, mirrored, of_matrix, turned
from app.media.sound import EvenSound
from app.media.tracks import Track, choose_film, choose_sound

_PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize("a", [-1, 0, 1])
@pytest.mark.parametrize("b", [-1, 0, 1])
@pytest.mark.parametrize("swapped", [False, True])
def test_each_place_is_shown_where_the_matrix_says(a: int, b: int, swapped: bool) -> None:
    if not a or not b:
        return  # no whole turn and no mirror
    matrix = (0, a, 0, b, 0, 0, 0, 0, 1) if swapped else (a, 0, 0, 0, b, 0, 0, 0, 1)
    shown = of_matrix([number << 16 for number in matrix]).applied(_PICTURE)
    x = [matrix[0] * p + matrix[3] * q for q in range(2) for p in range(3)]
    y = [matrix[1] * p + matrix[4] * q for q in range(2) for p in range(3)]
    for place, (across, down) in enumerate(zip(x, y, strict=True)):
        at = shown[down - min(y), across - min(x)]
        assert at.tolist() == _PICTURE[place // 3, place % 3].tolist()


def test_turns_and_mirrors_follow_one_another() -> None:
    steps = [turned(1), turned(2), turned(3), mirrored(upside_down=True), mirrored(upside_down=False), IDENTITY]
    for first in steps:
        for second in steps:
            both = first.then(second).applied(_PICTURE)
            assert both.tolist() == second.applied(first.applied(_PICTURE)).tolist()
    assert turned(1).applied(_PICTURE).tolist() == np.rot90(_PICTURE).tolist()
    assert mirrored(upside_down=True).applied(_PICTURE).tolist() == cv2.flip(_PICTURE, 0).tolist()


def test_a_matrix_between_two_turns_is_the_nearer_one() -> None:
    assert of_matrix([60_000, -20_000, 0, 20_000, 60_000, 0, 0, 0, 1 << 30]) == IDENTITY
    assert of_matrix([20_000, -60_000, 0, 60_000, 20_000, 0, 0, 0, 1 << 30]) == turned(1)


def test_only_hdr_and_wide_colours_are_changed() -> None:
    assert [is_beyond(*kind) for kind in ((1, 1), (2, 2), (6, 6), (13, 1), (1, 5))] == [False] * 5
    assert [is_beyond(*kind) for kind in ((HLG, 9), (PQ, 9), (PQ, 2), (1, BT2020), (13, DISPLAY_P3))] == [True] * 5


@pytest.mark.parametrize(
    ("transfer", "signal", "right"),
    [
        # BT.2408, table 1: the signal of reference white. It must stay bright; black is black; the peak is white.
        (HLG, 0.75, 230),
        (PQ, 0.5807, 229),
        (HLG, 0.0, 0),
        (PQ, 0.0, 0),
        (HLG, 1.0, 255),
        (PQ, 0.7518, 255),  # 1000 cd/m2
        (PQ, 1.0, 255),
    ],
)
def test_grey_of_hdr_comes_out_as_it_is_seen(transfer: int, signal: float, right: int) -> None:
    grey = to_sdr(np.full((1, 3), signal), transfer, BT2020)[0] * 255
    assert grey == pytest.approx([right] * 3, abs=1.5)


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_brighter_light_is_never_darker(transfer: int) -> None:
    ramp = to_sdr(np.linspace(0, 1, 500)[:, None].repeat(3, axis=1), transfer, BT2020)
    assert (np.diff(ramp, axis=0) >= -1e-9).all()
    assert ramp.min() >= 0
    assert ramp.max() <= 1


def test_a_colour_of_both_spaces_is_the_same_in_each() -> None:
    # (200, 80, 40) of BT.709 in Display P3: by the matrices of SMPTE EG 432-1 and the sRGB curve.
    in_p3 = np.array([[185.1, 87.3, 52.3]]) / 255
    assert to_sdr(in_p3, 13, DISPLAY_P3)[0] * 255 == pytest.approx([200, 80, 40], abs=1.5)
    assert to_sdr(np.full((1, 3), 0.5), 1, BT2020)[0] == pytest.approx([0.5] * 3, abs=1e-6)


def test_the_film_is_what_moves_and_no_cover() -> None:
    cover, thumbnail = Track(0, Disposition.attached_pic), Track(1, Disposition.timed_thumbnails)
    assert choose_film([cover, thumbnail]) is None
    assert choose_film([]) is None
    still, film = Track(2, Disposition.default, pictures=1), Track(3, pictures=2)
    assert choose_film([cover, still, film]) == film
    assert choose_film([cover, still]) == still
    assert choose_film([film, Track(4, Disposition.default, pictures=2)]) == Track(4, Disposition.default, pictures=2)
    assert choose_film([Track(5, decodable=False, pictures=2), film]) == film
    assert choose_film([film, Track(6, pictures=2, area=9)]) == Track(6, pictures=2, area=9)
    assert choose_film([film, Track(7, pictures=2)]) == film


def test_the_sound_is_no_commentary_if_there_is_another() -> None:
    comment, plain = Track(0, Disposition.comment | Disposition.default), Track(1)
    assert choose_sound([comment, plain]) == plain
    assert choose_sound([comment]) == comment
    assert choose_sound([plain, Track(2, Disposition.default)]) == Track(2, Disposition.default)
    assert choose_sound([plain, Track(3, advised=True)]) == Track(3, advised=True)
    assert choose_sound([]) is None


def piece(begin: float, value: float, count: int = 4800, rate: int = 48_000, layout: str = "mono") -> av.AudioFrame:
    channels = {"mono": 1, "stereo": 2}[layout]
    frame = av.AudioFrame.from_ndarray(np.full((channels, count), value, np.float32), format="fltp", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(begin * rate)
    return frame


def evened(*frames: av.AudioFrame) -> np.ndarray:
    """All samples that come out, from media time 0 on, (n,); frames must lie close."""
    even, found = EvenSound("mono", 48_000), []
    for frame in frames:
        found.extend(even(frame))
    found.extend(even.flush())
    at = found[0].pts or 0
    for frame in found:
        assert frame.pts == at
        at += frame.samples
    return np.concatenate([np.zeros(found[0].pts or 0), *(frame.to_ndarray()[0] for frame in found)])


def test_a_gap_is_silence_and_an_overlap_is_cut_off() -> None:
    gap = evened(piece(0.0, 0.5), piece(0.3, 0.25))
    assert gap.tolist() == [0.5] * 4800 + [0.0] * 9600 + [0.25] * 4800
    overlap = evened(piece(0.0, 0.5), piece(0.05, 0.25), piece(0.15, 0.125))
    assert overlap.tolist() == [0.5] * 4800 + [0.25] * 2400 + [0.125] * 4800
    again = evened(piece(0.0, 0.5), piece(0.0, 0.25), piece(0.1, 0.125))
    assert again.tolist() == [0.5] * 4800 + [0.125] * 4800


def test_times_that_are_rounded_change_nothing() -> None:
    assert evened(piece(0.0, 0.5), piece(0.103, 0.25), piece(0.198, 0.125)).size == 3 * 4800


def test_what_lies_before_the_beginning_is_left_out() -> None:
    assert evened(piece(-0.15, 0.5), piece(-0.05, 0.25)).tolist() == [0.25] * 2400
    assert evened(piece(0.1, 0.5)).tolist() == [0.0] * 4800 + [0.5] * 4800


def test_a_change_of_format_loses_nothing() -> None:
    found = evened(piece(0.0, 0.5), piece(0.1, 0.25, 4410, 44_100), piece(0.2, 0.125, layout="stereo"))
    assert found.size == pytest.approx(3 * 4800, abs=40)
    assert found[2400] == pytest.approx(0.5, abs=0.01)
    assert found[7200] == pytest.approx(0.25, abs=0.01)
    assert found[12_000] == pytest.approx(0.125, abs=0.06)


def test_what_is_no_number_is_silence() -> None:
    odd = piece(0.0, 0.5)
    odd.planes[0].update(np.array([np.nan, np.inf, -np.inf, 1e30, -1e30] * 960, np.float32).tobytes())
    found = evened(odd)
    assert found[:5].tolist() == [0.0, 1.0, -1.0, 1.0, -1.0]
