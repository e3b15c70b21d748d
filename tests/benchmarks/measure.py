"""Times several things against each other, in turns, so that whatever slows the machine slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

# Runs a number of frames; the seconds that each took, everything waited for.
Contestant = Callable[[int], list[float]]


def in_turns(
    contestants: Mapping[str, Contestant], rounds: int, frames: int, warm_up: int = 8
) -> dict[str, list[float]]:
    """The seconds that each frame took, by contestant.

    Args:
        rounds: how often everyone has their turn.
        frames: how many frames a turn has.
        warm_up: frames for everyone before, which do not count.
    """
    for run in contestants.values():
        run(warm_up)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            seconds[name] += run(frames)
    return seconds


def timed(call: Callable[[int], object]) -> Contestant:
    """A contestant of ``call``, which is given the number of the frame and must return when all is done."""
    count = 0

    def run(frames: int) -> list[float]:
        nonlocal count
        seconds = []
        for _ in range(frames):
            started = time.perf_counter()
            call(count)
            seconds.append(time.perf_counter() - started)
            count += 1
        return seconds

    return run
