"""A window on a real session with the embedded model, for tests and for the soak."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QEventLoop, QtMsgType, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from app.engine import Loaded, load_engine
from app.fetching import Progress
from app.session import Session
from app.settings import Settings
from app.settings_owner import SettingsOwner
from app.sinks import CallbackSink
from app.sources import open_source
from pipeline.config import StreamConfig
from pipeline.stream import Stream
from ui.bridge import Bridge
from ui.choice import Choice
from ui.state import WindowState
from ui.window import Window

CARD = Choice("testcard:width=64,height=64,fps=20", "Test card")
PATIENCE_SECONDS = 90.0
# What Qt says of its own offscreen platform.
_HARMLESS = ("This plugin does not support",)


@dataclass
class Opened:
    """A window, its session, and the engines that the session has loaded."""

    window: Window
    session: Session
    streams: list[Stream]


def open_real(
    settings: Settings | SettingsOwner | None = None,
    choice: Choice = CARD,
    state: WindowState | None = None,
    presets: Path | None = None,
) -> Opened:
    """Open a window on the embedded model; the caller closes it."""
    streams: list[Stream] = []

    def load(wanted: Settings, progress: Progress) -> Loaded:
        loaded = load_engine(wanted, progress)
        assert isinstance(loaded.engine, Stream)
        streams.append(loaded.engine)
        return loaded

    bridge = Bridge()
    source = open_source(choice.spec, live=True)
    session = Session(
        source,
        settings or Settings(stream=StreamConfig(prompt="a watercolour")),
        [CallbackSink(bridge.put)],
        loader=load,
        listener=bridge.tell,
    )
    window = Window(session, bridge, choice, source, state=state)
    if presets is not None:
        window.presets.folder = presets
    session.start()
    window.show()
    return Opened(window, session, streams)


def spin(seconds: float) -> None:
    """Let the window live for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        time.sleep(0.002)


def wait_for(what: Callable[[], bool], why: str) -> None:
    """Let the window live until ``what()``; an error that says ``why`` after a long while."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until, why
        spin(0.01)


class QtWarnings:
    """Collects what Qt complains of while it is entered."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> QtWarnings:
        self._before = qInstallMessageHandler(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        qInstallMessageHandler(self._before)

    def _note(self, kind: QtMsgType, _: object, message: str | None) -> None:
        text = message or ""
        bad = kind in (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
        if bad and not text.startswith(_HARMLESS):
            self.found.append(text)
