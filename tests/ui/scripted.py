"""A window on a session with a scripted engine, which paints at once."""

from __future__ import annotations

from pathlib import Path

from pytestqt.qtbot import QtBot

from app.engine import Loader
from app.session import Session
from app.settings import Settings
from app.sinks import CallbackSink
from app.sources.idle import IdleSource
from pipeline.config import StreamConfig
from tests.app.fakes import FakeEngine, loader_of
from ui.bridge import Bridge
from ui.choice import Choice
from ui.window import Window

CARD = Choice("testcard:width=64,height=64,fps=100", "Card")


def open_scripted(qtbot: QtBot, folder: Path, loader: Loader | None = None) -> Window:
    """Show one that watches nothing yet and keeps its presets in ``folder``; the caller closes it."""
    bridge = Bridge()
    session = Session(
        IdleSource(),
        Settings(stream=StreamConfig(prompt="ink")),
        [CallbackSink(bridge.put)],
        loader=loader or loader_of(FakeEngine(), FakeEngine()),
        listener=bridge.tell,
    )
    window = Window(session, bridge, CARD)
    window.presets.folder = folder / "presets"
    qtbot.addWidget(window)
    session.start()
    window.show()
    return window


def run_card(qtbot: QtBot, window: Window) -> None:
    """Watch a test card, and wait for its first picture."""
    window.switch.choose(CARD)
    qtbot.waitUntil(lambda: window.viewer.frame is not None)
