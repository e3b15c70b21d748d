"""Where the picture goes besides the window: recording, snapshot, virtual camera. All at once, if wanted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.frame import Frame
from app.opacity import with_alpha
from app.session import Session
from app.sinks import BackgroundSink, Recorder, SinkError, virtual_camera
from app.sinks.background import FINISH_SECONDS
from app.sinks.virtual_camera import camera_size
from app.snapshot import SnapshotThread
from ui.seek_bar import clock

LATELY_SECONDS = 10.0


class Sinks(QObject):
    """Attaches sinks to a session and lets them go.

    Args:
        session: whose pictures.
        nominal_fps: the rate of the source, where known: for the recording's header.
        newest: the picture on show, for a snapshot.
        clock: seconds, monotonic.

    Signals:
        changed: something was started or has ended.
        told: a sentence, its kind (``done``, ``warning`` or ``error``) and a file that it is about, or None.
    """

    changed = Signal()
    told = Signal(str, str, object)
    _came_to_an_end = Signal()  # emitted on other threads

    def __init__(
        self,
        session: Session,
        nominal_fps: Callable[[], float | None],
        newest: Callable[[], Frame | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._session = session
        self._nominal_fps = nominal_fps
        self._newest = newest
        self._clock = clock
        self._drops: deque[tuple[float, int]] = deque()  # when counted, and how many by then
        self._counted: tuple[BackgroundSink, ...] = ()
        self.recorder: Recorder | None = None
        self.camera: BackgroundSink | None = None
        self._ending: list[BackgroundSink] = []
        self._saving: list[SnapshotThread] = []
        self._came_to_an_end.connect(self.look)

    def recent_drops(self) -> int:
        """Frames that were too many for the sinks that run, in the last ``LATELY_SECONDS``. To be asked regularly."""
        now = self._clock()
        running = tuple(sink for sink in (self.recorder, self.camera) if sink is not None)
        self._drops.append((now, sum(sink.dropped for sink in running)))
        if self._counted != running:  # others count from nought
            self._counted = running
            self._drops = deque([self._drops[-1]])
        while now - self._drops[0][0] > LATELY_SECONDS:
            self._drops.popleft()
        return self._drops[-1][1] - self._drops[0][1]

    @property
    def recording(self) -> str:
        """How long the recording is, or that the last one is being finished; empty where there is none."""
        if self.recorder is not None:
            return clock(self.recorder.seconds)
        return "finishing…" if any(isinstance(sink, Recorder) for sink in self._ending) else ""

    def record(self, on: bool, folder: Path | None = None) -> None:
        """Begin a recording in a new file, or have the present one finished beside the picture."""
        if on and self.recorder is None:
            newest = self._newest()
            transparent = newest is not None and newest.alpha is not None
            recorder = Recorder(folder, nominal_fps=self._nominal_fps, transparent=transparent)
            if self._attached(recorder):
                self.recorder = recorder
        elif not on and self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            self._end(recorder)
        self.changed.emit()

    def stream(self, on: bool) -> None:
        """Be a camera for other programs, or no more."""
        if on and self.camera is None:
            counts = self._session.metrics()
            camera = virtual_camera(camera_size(counts.width, counts.height))
            if self._attached(camera):
                self.camera = camera
                self.told.emit(f"Other programs now see the picture as “{_device(camera)}”.", "done", None)
        elif not on and self.camera is not None:
            camera, self.camera = self.camera, None
            self._end(camera)
        self.changed.emit()

    def snapshot(self, folder: Path | None = None) -> None:
        """Save the picture of now, with the settings in it, beside the picture."""
        frame = self._newest()
        if frame is None:
            self.told.emit("There is no picture yet.", "error", None)
            return
        settings = frame.settings or self._session.settings
        saving = SnapshotThread(with_alpha(frame), settings, frame.model, folder, then=self._came_to_an_end.emit)
        self._saving.append(saving)
        saving.start()

    def look(self) -> None:
        """Let go of a sink that has failed since, of which the session has said why; tell what has been finished."""
        for sink, forget in ((self.recorder, self._forget_recorder), (self.camera, self._forget_camera)):
            if sink is not None and sink not in self._session.sinks:
                forget()
                self.changed.emit()
        for saving in [one for one in self._saving if one.path is not None or one.error is not None]:
            self._saving.remove(saving)
            self._tell_saved(saving)
        for sink in [one for one in self._ending if one.finished]:
            self._ending.remove(sink)
            self._finish(sink)
            self.changed.emit()

    def close(self) -> None:
        """Finish all of them, and wait for it."""
        self.record(False)
        self.stream(False)
        for saving in self._saving:
            saving.join(FINISH_SECONDS)
        while self._ending:
            self._finish(self._ending.pop())

    def _forget_recorder(self) -> None:
        self.recorder = None

    def _forget_camera(self) -> None:
        self.camera = None

    def _attached(self, sink: BackgroundSink) -> bool:
        try:
            self._session.add_sink(sink)
        except SinkError as error:
            self.told.emit(str(error), "error", None)
            return False
        return True

    def _end(self, sink: BackgroundSink) -> None:
        """Send it no more, and have it finished on its own thread."""
        self._session.detach_sink(sink)
        self._ending.append(sink)
        sink.end(self._came_to_an_end.emit)

    def _finish(self, sink: BackgroundSink) -> None:
        try:
            sink.close()
        except SinkError as error:
            self.told.emit(str(error), "error", None)
            return
        if isinstance(sink, Recorder) and sink.written == 0:
            self.told.emit("Nothing was recorded: no picture came in that time.", "warning", None)
        elif isinstance(sink, Recorder):
            lost = f" {sink.lost}" if sink.lost else ""
            self.told.emit(f"Recorded {sink.path.name} ({sink.seconds:.0f} s).{lost}", "done", sink.path)

    def _tell_saved(self, saving: SnapshotThread) -> None:
        if saving.path is not None:
            self.told.emit(f"Saved {saving.path.name}.", "done", saving.path)
        else:
            self.told.emit(str(saving.error), "error", None)


def _device(camera: BackgroundSink) -> str:
    return getattr(camera.sink, "device", None) or camera.name
