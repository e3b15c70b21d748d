"""A session at full speed for minutes: ``python -m tests.app.soak --minutes 10``. Its memory must not grow.

The embedded model redraws the sample clip, over and over, in pictures that are small enough for many thousands of them.
Exit code 1 where memory grew faster than ``--most`` MB an hour, a thread or a file was left, or the session failed.
``--leak`` keeps so many bytes with each picture: with it the run must fail, or it could not have found a leak either.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from dataclasses import dataclass, field, replace

import psutil

from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sinks import CallbackSink
from app.sources.video import VideoSource
from app.status import SessionState
from assets.sample import clip_path
from pipeline.config import StreamConfig
from tests.growth import Slope, memory_mb, slope

SIDE = 64
MOST_MB_PER_HOUR = 30.0  # over ten minutes
SURE_MINUTES = 10.0
SAMPLE_SECONDS = 1.0
WARM_UP_SECONDS = 90.0  # allocators and caches fill up first
START_SECONDS = 120.0


class Looped(VideoSource):
    """A clip without an end, of which every frame is drawn: as fast as the engine is."""

    count = 0

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None and self.count:
            self.open()
            frame = super().read()
        if frame is None:
            return None
        self.count += 1
        return replace(frame, index=self.count, media_time=self.count / 24)


@dataclass
class Report:
    """What a soak found.

    Attributes:
        pictures: that were drawn.
        memory_mb: (seconds, megabytes) as it went.
        problems: what should not have been; empty where all was well.
    """

    pictures: int = 0
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def judge(self, most: float) -> Slope:
        """Complain where memory grew by more than ``most`` MB an hour, or as much more as a short run may be off by.

        Memory swings by a megabyte or two, over half a minute and more. How far that tilts a line through it goes with
        the length of the run to the power of -3/2: two minutes allow eleven times what ten do, 8 MB from end to end.
        """
        found = slope(self.memory_mb)
        minutes = (self.memory_mb[-1][0] + SAMPLE_SECONDS) / 60
        allowed = most * max(1.0, SURE_MINUTES / minutes) ** 1.5
        if found.mb_per_hour > allowed:
            self.problems.append(f"memory grew by {found}; at most {allowed:.0f} are allowed in {minutes:.0f} minutes")
        return found


def soak(seconds: float, leak: int = 0, warm_up: float = 0.0) -> Report:
    """Redraw the clip for so long after ``warm_up`` seconds.

    ``leak`` bytes are kept with each picture, to see that this is found.
    """
    report, kept = Report(), list[bytes]()
    threads, files = threading.active_count(), psutil.Process().num_fds()

    def show(_: Frame) -> None:
        report.pictures += 1
        if leak:
            kept.append(os.urandom(leak))

    settings = Settings(stream=StreamConfig(prompt="ink"), acceleration="eager", width=SIDE, height=SIDE)
    with Session(Looped(clip_path()), settings, [CallbackSink(show)]) as session:
        until = time.monotonic() + START_SECONDS
        while not report.pictures and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        while (now := time.monotonic() - began - warm_up) < seconds and session.state is SessionState.RUNNING:
            if now >= 0:
                report.memory_mb.append((now, memory_mb()))
            time.sleep(SAMPLE_SECONDS)
        if session.state is not SessionState.RUNNING:
            report.problems.append(f"the session is {session.state.value}: {session.status.message}")
    if threading.active_count() > threads:
        report.problems.append(f"threads were left: {[one.name for one in threading.enumerate()]}")
    if psutil.Process().num_fds() > files + 4:  # what libraries open once, as their log or /dev/urandom
        report.problems.append(f"files were left open: {psutil.Process().num_fds()} instead of {files}")
    return report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A session at full speed for minutes.")
    parser.add_argument("--minutes", type=float, default=10)
    most = "MB an hour that memory may grow by, as ten minutes tell it"
    parser.add_argument("--most", type=float, default=MOST_MB_PER_HOUR, help=most)
    parser.add_argument("--leak", type=int, default=0, help="bytes to keep with each picture, to see that it is found")
    arguments = parser.parse_args()
    report = soak(60 * arguments.minutes, arguments.leak, WARM_UP_SECONDS)
    found = report.judge(arguments.most)
    print(f"{report.pictures} pictures of {SIDE}x{SIDE} in {arguments.minutes:g} minutes; memory grew by {found}")  # noqa: T201
    every = max(1, len(report.memory_mb) // 10)
    print("MB:", ", ".join(f"{megabytes:.1f}" for _, megabytes in report.memory_mb[::every]))  # noqa: T201
    for problem in report.problems:
        print(problem)  # noqa: T201
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
