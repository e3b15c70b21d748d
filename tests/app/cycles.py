"""Sessions started and stopped thousands of times: ``python -m tests.app.cycles --count 10000``.

With an engine of a few lines, so that what grows is ours. Exit code 1 where a thread or a file is left, a session ends
other than it should, or memory grows after warm-up by more than ``MOST_KB_PER_CYCLE`` and what it swings by anyway.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil

from app.session import Session
from app.settings import Settings
from app.status import SessionState
from tests.app.fakes import FakeEngine, FakeSource, ListSink, loader_of, until
from tests.growth import WARM_UP, memory_mb

MOST_KB_PER_CYCLE = 2.0
SWING_MB = 2.0
SAMPLES = 40


@dataclass
class Cycles:
    """What was found.

    Attributes:
        threads, files: that the process had, as (first, last) after warm-up.
        grown_mb: by which memory grew, from the first quarter of the samples after warm-up to the last, and
        apart: how many sessions lie between the two.
        slowest: seconds of the slowest stop.
        wrong: how sessions ended that should have been stopped.
    """

    threads: tuple[int, int] = (0, 0)
    files: tuple[int, int] = (0, 0)
    grown_mb: float = 0.0
    apart: float = 0.0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """One sentence on each thing that should not be."""
        found = list(self.wrong)
        for name, (before, after) in (("threads", self.threads), ("open files", self.files)):
            if after > before:
                found.append(f"{before} {name} became {after}")
        allowed = SWING_MB + MOST_KB_PER_CYCLE * self.apart / 1024
        if self.grown_mb > allowed:
            found.append(f"memory grew by {self.grown_mb:.1f} MB in {self.apart:.0f} sessions; at most {allowed:.1f}")
        return found


def cycles(count: int, leak: int = 0) -> Cycles:
    """Start and stop ``count`` sessions, one in three of them before its first picture.

    ``leak`` bytes are kept of each, to see that this is found.
    """
    found, memory = Cycles(), list[tuple[int, float]]()
    kept: list[object] = []
    process = psutil.Process()
    for number in range(count):
        taken = ListSink()
        session = Session(
            FakeSource(count=None, live=True, script=lambda _: time.sleep(0.001)),
            Settings(width=64, height=64),
            [taken],
            loader=loader_of(FakeEngine()),
        )
        session.start()
        if number % 3:
            until(lambda taken=taken: bool(taken.frames))
        if leak:
            kept.append(os.urandom(leak))
        began = time.monotonic()
        session.stop()
        found.slowest = max(found.slowest, time.monotonic() - began)
        if session.state is not SessionState.STOPPED or session.running or taken.closed > 1:
            found.wrong.append(f"session {number} is {session.state.value}, {session.running} run on")
        if number == round(WARM_UP * count):
            found.threads, found.files = (threading.active_count(), 0), (process.num_fds(), 0)
        if number >= WARM_UP * count and number % max(1, count // SAMPLES) == 0:
            memory.append((number, memory_mb()))
    found.threads = (found.threads[0], threading.active_count())
    found.files = (found.files[0], process.num_fds())
    quarter = max(1, len(memory) // 4)
    first, last = memory[:quarter], memory[-quarter:]
    found.apart = sum(at for at, _ in last) / quarter - sum(at for at, _ in first) / quarter
    found.grown_mb = sum(mb for _, mb in last) / quarter - sum(mb for _, mb in first) / quarter
    return found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Sessions started and stopped.")
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    began = time.monotonic()
    found = cycles(count)
    print(f"{count} sessions in {time.monotonic() - began:.0f} s: {found}")  # noqa: T201
    for problem in found.problems:
        print(problem)  # noqa: T201
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
