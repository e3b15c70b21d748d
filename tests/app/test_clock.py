"""The clock of a file goes on where the file's own begins anew or leaps, and stays with it through everything else."""

from __future__ import annotations

import numpy as np
import pytest

from app.media.clock import LEAP_SECONDS, LONGEST_GAP, ContinuousClock

PICTURES, SOUND = 0, 1


def times(clock: ContinuousClock, *packets: tuple[int, float, float]) -> list[float]:
    """When these packets (stream, time, length) begin by ``clock``."""
    return [begin + clock.shift(stream, begin, length) for stream, begin, length in packets]


def steady(stream: int, start: float, count: int, step: float = 0.04) -> list[tuple[int, float, float]]:
    return [(stream, start + number * step, step) for number in range(count)]


def received(zero: float = 0.0) -> ContinuousClock:
    return ContinuousClock(zero, leap=LEAP_SECONDS)


def test_times_count_from_the_beginning_of_the_file() -> None:
    clock = received(1.4)
    assert times(clock, *steady(PICTURES, 1.48, 3)) == pytest.approx([0.08, 0.12, 0.16])
    assert clock.joints == 0


def test_what_the_header_says_of_the_beginning_is_not_believed_if_it_is_far_off() -> None:
    clock = received(0.0)
    assert times(clock, *steady(PICTURES, 36_000, 2)) == pytest.approx([0.0, 0.04])
    assert clock.zero == 36_000
    sure = ContinuousClock(0.0, leap=LEAP_SECONDS, sure=True)  # as after a seek
    assert times(sure, (PICTURES, 60.0, 0.04)) == [60.0]


@pytest.mark.parametrize("begins", [0.0, 0.5, 30.0, 36_000.0, -36_000.0])
def test_a_new_clock_goes_on_where_the_old_one_was(begins: float) -> None:
    clock = received()
    shown = times(clock, *steady(PICTURES, 0.0, 25), *steady(PICTURES, begins, 25))
    assert shown == pytest.approx([number * 0.04 for number in range(50)])
    assert clock.joints == 1


def test_streams_follow_each_other_over_a_joint_by_the_same_shift() -> None:
    clock = received()
    times(clock, *steady(PICTURES, 0.0, 25), *steady(SOUND, 0.0, 50, 0.02))
    # The sound is first, by 20 ms; a last picture of the old clock comes among it, as in transport streams.
    assert times(clock, (SOUND, 5000.0, 0.02)) == pytest.approx([1.0])
    assert times(clock, (PICTURES, 1.0, 0.04)) == pytest.approx([1.0])
    assert times(clock, (PICTURES, 5000.03, 0.04), (SOUND, 5000.02, 0.02)) == pytest.approx([1.03, 1.02])
    assert clock.joints == 1


def test_a_stream_that_ended_early_does_not_lead_the_other_back() -> None:
    clock = received()
    times(clock, *steady(SOUND, 0.0, 50, 0.02), *steady(PICTURES, 0.0, 100))
    assert times(clock, (SOUND, 0.0, 0.02)) == pytest.approx([4.0])
    assert times(clock, (PICTURES, 0.0, 0.04)) == pytest.approx([4.0])


def test_a_silence_is_no_joint_while_the_pictures_go_on() -> None:
    clock = received()
    times(clock, (SOUND, 0.0, 0.02), *steady(PICTURES, 0.0, 500))
    assert times(clock, (SOUND, 19.9, 0.02)) == pytest.approx([19.9])
    assert clock.joints == 0


def test_a_wild_time_moves_nothing_but_itself() -> None:
    clock = received()
    shown = times(clock, *steady(PICTURES, 0.0, 5), (PICTURES, 9e6, 0.04), *steady(PICTURES, 0.24, 5))
    assert shown == pytest.approx([number * 0.04 for number in range(11)], abs=1e-6)


def test_where_files_are_not_joined_only_hours_are_no_gap() -> None:
    clock = ContinuousClock()
    assert times(clock, (PICTURES, 0.0, 0.04), (PICTURES, 600.0, 0.04)) == [0.0, 600.0]
    assert times(clock, (PICTURES, 600 + 2 * LONGEST_GAP, 0.04)) == pytest.approx([600.04])


def test_a_length_beyond_belief_is_not_believed() -> None:
    clock = ContinuousClock()
    begun = times(clock, (PICTURES, 0.0, 0.04), (PICTURES, 0.04, 36_000.0), (PICTURES, 36_000.04, 0.04))
    assert begun == pytest.approx([0.0, 0.04, 0.08])


def test_pictures_in_the_order_of_decoding_are_no_joints() -> None:
    clock = received()
    for shown in (0.0, 0.4, 0.1, 0.2, 0.8, 0.5, 0.6):
        assert clock.shift(PICTURES, shown, 0.1, in_order=False) == 0.0
    assert clock.joints == 0


def test_whatever_comes_each_stream_goes_on_and_streams_stay_together() -> None:
    """Random joints, each with sound that begins a little before or after the pictures."""
    random = np.random.default_rng(7)
    for _ in range(50):
        clock, ends, lag = received(), {PICTURES: 0.0, SOUND: 0.0}, 0.0
        for part in range(6):
            start, late = random.uniform(-1e5, 1e5) if part else 0.0, random.uniform(0, 0.1)
            packets = [*steady(PICTURES, start + late, 50), *steady(SOUND, start, 100, 0.02)]
            packets.sort(key=lambda packet: packet[1])
            shifts: dict[int, set[float]] = {PICTURES: set(), SOUND: set()}
            for stream, begin, length in packets:
                shift = clock.shift(stream, begin, length)
                shifts[stream].add(round(shift, 6))
                lag = max(lag, ends[stream] - (begin + shift))
                ends[stream] = begin + shift + length
            assert shifts[PICTURES] == shifts[SOUND]
            assert len(shifts[SOUND]) == 1
        assert lag < 0.11  # of the stream that did not begin the piece
        assert clock.joints == 5
