"""How soon the window is there, and the first picture in it: ``python -m tests.benchmarks.start``.

Opens the window as ``vitrail`` does, on the sample clip and offscreen (unless ``QT_QPA_PLATFORM`` says otherwise), and
prints what passed since the process began: until the window was painted, until the model was ready, and until its first
picture was on the screen; besides, for how long at most the window did not answer meanwhile. The user's own settings
are neither read nor written.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from typing import Any

import psutil

TICK_MS = 5


class Marks:
    """When each thing happened first: seconds since the process began, and of its processor time."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.found: dict[str, tuple[float, float]] = {}

    def note(self, what: str) -> None:
        """It happens now."""
        if what not in self.found:
            spent = self._process.cpu_times()
            self.found[what] = (time.time() - self._process.create_time(), spent.user + spent.system)


def main() -> int:
    """Measure one start."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    marks = Marks()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_CONFIG_HOME", "APPDATA"):
            os.environ[name] = folder
        gaps = _open(marks)
    for what, (seconds, processor) in marks.found.items():
        print(f"{seconds:6.2f} s, {processor:6.2f} s of processor time: {what}")  # noqa: T201
    print(f"the window did not answer for {1000 * max(gaps):.0f} ms at most")  # noqa: T201
    return 0


def _open(marks: Marks) -> list[float]:
    """Open the window until its first picture; the seconds between two turns of its event loop."""
    from app.cli import main as vitrail  # what `vitrail` imports is a part of the start
    from assets.sample import clip_path

    import ui.main  # isort: skip
    from PySide6.QtCore import QEvent, QObject, QTimer

    turns: list[float] = []

    class Watch(QObject):
        """Looks at the window from its own thread."""

        def __init__(self, window: Any) -> None:
            super().__init__(window)
            self._window = window
            window.viewer.installEventFilter(self)
            self._timer = QTimer(self)
            self._timer.timeout.connect(self._look)
            self._timer.start(TICK_MS)

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() is QEvent.Type.Paint:
                QTimer.singleShot(0, lambda: marks.note("the window was painted"))
            return super().eventFilter(watched, event)

        def _look(self) -> None:
            turns.append(time.monotonic())
            if self._window.session.model is not None:
                marks.note("the model was ready")
            if self._window.viewer.frame is not None:
                marks.note("the first picture was there")
                self._window.close()

    open_window = ui.main.open_window

    def watched(*arguments: Any, **options: Any) -> Any:
        marks.note("everything was imported")
        window = open_window(*arguments, **options)
        Watch(window)
        return window

    ui.main.open_window = watched
    vitrail(["--source", str(clip_path())])
    return [after - before for before, after in itertools.pairwise(turns)]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # engines are still being built on a daemon thread, which native code does not survive otherwise
