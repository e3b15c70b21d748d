"""Where the picture goes besides the window: recording, snapshot, virtual camera. All at once, if wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from app.frame import Frame
from app.session import Session
from app.sinks import BackgroundSink, Recorder, SinkError, virtual_camera
from app.snapshot import save_snapshot


class Sinks(QObject):
    """Attaches sinks to a session and lets them go.

    Args:
        session: whose pictures.
        nominal_fps: the rate of the source, where known: for the recording's header.
        newest: the picture on show, for a snapshot.

    Signals:
        changed: something was started or has ended.
        told: a sentence, its kind (``done`` or ``error``) and a file that it is about, or None.
    """

    changed = Signal()
    told = Signal(str, str, object)

    def __init__(
        self, session: Session, nominal_fps: Callable[[], float | None], newest: Callable[[], Frame | None]
    ) -> None:
        super().__init__()
        self._session = session
        self._nominal_fps = nominal_fps
        self._newest = newest
        self.recorder: Recorder | None = None
        self.camera: BackgroundSink | None = None

    @property
    def drops(self) -> int:
        """Frames that were too many for the sinks that run."""
        return sum(sink.dropped for sink in (self.recorder, self.camera) if sink is not None)

    def record(self, on: bool, folder: Path | None = None) -> None:
        """Begin a recording in a new file, or finish it."""
        if on and self.recorder is None:
            recorder = Recorder(folder, nominal_fps=self._nominal_fps)
            if self._attached(recorder):
                self.recorder = recorder
        elif not on and self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            if self._detached(recorder):
                lost = f" {recorder.lost}" if recorder.lost else ""
                self.told.emit(
                    f"Recorded {recorder.path.name} ({recorder.seconds:.0f} s).{lost}", "done", recorder.path
                )
        self.changed.emit()

    def stream(self, on: bool) -> None:
        """Be a camera for other programs, or no more."""
        if on and self.camera is None:
            camera = virtual_camera()
            if self._attached(camera):
                self.camera = camera
                self.told.emit(f"Other programs now see the picture as “{_device(camera)}”.", "done", None)
        elif not on and self.camera is not None:
            camera, self.camera = self.camera, None
            self._detached(camera)
        self.changed.emit()

    def snapshot(self, folder: Path | None = None) -> None:
        """Save the picture of now, with the settings in it."""
        frame = self._newest()
        if frame is None:
            self.told.emit("There is no picture yet.", "error", None)
            return
        try:
            path = save_snapshot(frame.pixels, self._session.settings, self._session.model, folder)
        except SinkError as error:
            self.told.emit(str(error), "error", None)
            return
        self.told.emit(f"Saved {path.name}.", "done", path)

    def look(self) -> None:
        """Let go of a sink that has failed since; the session has said why."""
        for sink, forget in ((self.recorder, self._forget_recorder), (self.camera, self._forget_camera)):
            if sink is not None and sink not in self._session.sinks:
                forget()
                self.changed.emit()

    def close(self) -> None:
        """Finish all of them."""
        self.record(False)
        self.stream(False)

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

    def _detached(self, sink: BackgroundSink) -> bool:
        try:
            self._session.remove_sink(sink)
        except SinkError as error:
            self.told.emit(str(error), "error", None)
            return False
        return True


def _device(camera: BackgroundSink) -> str:
    return getattr(camera.sink, "device", None) or camera.name
