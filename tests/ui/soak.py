"""A random user at the controls of a real window: ``python -m tests.ui.soak --minutes 10 --seed 1``.

Prints memory as it goes and, at the end, by how much it grew after warm-up. Exit code 1 where the session failed, Qt
complained, a thread or an open file was left behind, or memory was not flat: of two minutes and more, the end may have
at most ``MOST_GROWTH`` more than what there was after warm-up. What a user does takes memory and gives it back, so this
finds a large leak only; ``tests.app.soak`` finds a small one, where nothing is done but drawing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from app.status import SessionState

WARM_UP = 0.3  # of the time: the first models, buffers and caches
MOST_GROWTH = 0.06  # of the memory after warm-up; the canvas's undo (at most 64 MB) may still fill up
FLAT_FROM_SECONDS = 120.0  # before, engines are still being built for the first time
PAUSE_SECONDS = 0.12
END_SECONDS = 20.0
# A user who asks this machine for fifty steps of a huge picture only waits.
_MOST = {"steps": 3, "frame_buffer": 2, "width": 128, "height": 128}


@dataclass
class Report:
    """What a soak found.

    Attributes:
        acts: how often each thing was done.
        memory_mb: (seconds, megabytes) as it went.
        problems: what should not have happened.
        frames: pictures shown.
    """

    acts: dict[str, int] = field(default_factory=dict)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    frames: int = 0

    def growth_mb(self) -> float:
        """Memory at the end (median of the last quarter) less that after warm-up (median of as much)."""
        return self._median_between(0.75, 1) - self._median_between(WARM_UP, WARM_UP + 0.25)

    @property
    def flat(self) -> bool | None:
        """Whether memory stayed as it was after warm-up; None where the run was too short to tell."""
        if not self.memory_mb or self.memory_mb[-1][0] < FLAT_FROM_SECONDS:
            return None
        return self.growth_mb() <= MOST_GROWTH * self._median_between(WARM_UP, WARM_UP + 0.25)

    def _median_between(self, first: float, last: float) -> float:
        end = self.memory_mb[-1][0] if self.memory_mb else 0.0
        return _median([mb for at, mb in self.memory_mb if first * end <= at <= last * end])


def soak(seconds: float, seed: int, folder: Path, say: Callable[[str], None] = lambda _: None) -> Report:
    """Let a random user play for so long. Qt's application must be there."""
    from tests.ui.random_user import RandomUser
    from tests.ui.real import QtWarnings, open_real, spin, wait_for

    report = Report()
    files = _files()
    with QtWarnings() as warnings:
        opened = open_real(presets=folder / "presets")
        window = opened.window
        wait_for(lambda: window.viewer.frame is not None, "no picture came")
        user = RandomUser(opened, random.Random(seed), folder, _MOST)
        begun = time.monotonic()
        looked = -1e9
        while (now := time.monotonic() - begun) < seconds:
            name = user.act()
            report.acts[name] = report.acts.get(name, 0) + 1
            spin(PAUSE_SECONDS)
            if opened.session.state is SessionState.FAILED:
                report.problems.append(f"the session failed after {name}: {opened.session.status.message}")
                break
            if now - looked > max(0.5, seconds / 120):
                looked = now
                report.memory_mb.append((now, psutil.Process().memory_info().rss / 2**20))
                say(f"{now:6.0f} s  {report.memory_mb[-1][1]:6.0f} MB  {opened.session.metrics().frames_out} pictures")
        report.frames = opened.session.metrics().frames_out
        report.problems += [notice.message for notice in opened.session.notices if notice.error is not None]
        window.close()
        until = time.monotonic() + END_SECONDS
        while _threads() and time.monotonic() < until:  # a call of the model that was under way may take its time
            spin(0.1)
    report.problems += [f"Qt: {text}" for text in warnings.found]
    report.problems += [f"thread left behind: {name}" for name in _threads()]
    report.problems += [f"file left open: {name}" for name in sorted(_files() - files) if str(folder) in name]
    if report.flat is False:
        report.problems.append(f"memory is not flat: it grew by {report.growth_mb():.0f} MB after warm-up")
    return report


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A random user at the controls of a real window.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write what was found as JSON")
    arguments = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    torch.set_num_threads(1)
    from PySide6.QtWidgets import QApplication

    application = QApplication([sys.argv[0]])
    with tempfile.TemporaryDirectory() as folder:
        for name in ("HOME", "XDG_CONFIG_HOME", "APPDATA"):
            os.environ[name] = folder
        report = soak(60 * arguments.minutes, arguments.seed, Path(folder), lambda text: print(text, flush=True))  # noqa: T201
    del application
    growth = report.growth_mb()
    for line in (*report.problems, f"grew by {growth:.0f} MB after warm-up; {report.frames} pictures; {report.acts}"):
        print(line)  # noqa: T201
    if arguments.report:
        arguments.report.write_text(json.dumps({**report.__dict__, "growth_mb": growth}, indent=1), encoding="utf-8")
    return 1 if report.problems else 0


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vitrail")]


def _files() -> set[str]:
    return {one.path for one in psutil.Process().open_files()}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
