"""The window on a real session with a scripted engine."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.session import Session
from app.settings import Settings
from app.sinks import CallbackSink
from app.sources import Source
from app.sources.testcard import TestCardSource
from app.status import SessionState
from tests.app.fakes import FakeEngine, FakeSource, loader_of
from ui.bridge import Bridge
from ui.view import with_stream
from ui.window import Window


def make(qtbot: QtBot, source: Source | None = None) -> tuple[Window, Session, list[Settings]]:
    kept: list[Settings] = []
    bridge = Bridge()
    session = Session(
        source or TestCardSource(width=64, height=64, fps=100, live=True),
        with_stream(Settings(), prompt="ink"),
        [CallbackSink(bridge.put)],
        loader=loader_of(FakeEngine()),
        listener=bridge.tell,
    )
    window = Window(session, bridge, on_close=kept.append)
    qtbot.addWidget(window)
    session.start()
    window.show()
    return window, session, kept


@pytest.fixture
def running(qtbot: QtBot) -> Iterator[tuple[Window, Session, list[Settings]]]:
    window, session, kept = make(qtbot)
    yield window, session, kept
    window.close()
    assert session.running == []


def test_pictures_arrive_and_the_banner_goes(qtbot: QtBot, running: tuple[Window, Session, list[Settings]]):
    window, _, _ = running
    qtbot.waitUntil(lambda: not window.picture.image.isNull())
    qtbot.waitUntil(lambda: window.picture.banner == "")
    qtbot.waitUntil(lambda: "frames a second" in window.numbers.text())
    assert "fake on cpu" in window.numbers.text()


def test_a_prompt_counts_once_the_typing_pauses(qtbot: QtBot, running: tuple[Window, Session, list[Settings]]):
    window, session, _ = running
    assert window.prompt.text() == "ink"
    window.prompt.clear()
    window.typing.setInterval(3_600_000)
    qtbot.keyClicks(window.prompt, "a pencil")
    assert session.settings.stream.prompt == "ink"
    window.typing.start(1)
    qtbot.waitUntil(lambda: session.settings.stream.prompt == "a pencil")


def test_enter_does_not_wait_for_the_pause(qtbot: QtBot, running: tuple[Window, Session, list[Settings]]):
    window, session, _ = running
    qtbot.keyClicks(window.prompt, "!")
    qtbot.keyClick(window.prompt, Qt.Key.Key_Return)
    assert session.settings.stream.prompt == "ink!"


def test_sliders_and_switch_change_the_session(qtbot: QtBot, running: tuple[Window, Session, list[Settings]]):
    window, session, _ = running
    qtbot.keyClick(window.strength.slider, Qt.Key.Key_End)
    assert session.settings.stream.strength == 1.0
    assert not window.threshold.isEnabled()
    window.skip.click()
    assert session.settings.stream.similarity_filter
    assert window.threshold.isEnabled()
    qtbot.keyClick(window.threshold.slider, Qt.Key.Key_Home)
    assert session.settings.stream.similarity_threshold == 0.0
    assert session.settings.stream.prompt == "ink"


def test_a_failure_is_written_over_the_picture(qtbot: QtBot):
    def fail(_: int) -> None:
        raise RuntimeError("the picture fell off the wall")

    window, session, _ = make(qtbot, FakeSource(script=fail))
    qtbot.waitUntil(lambda: session.state is SessionState.FAILED)
    qtbot.waitUntil(lambda: window.picture.banner == "the picture fell off the wall")
    window.close()


def test_closing_ends_the_session_and_keeps_what_was_typed_last(qtbot: QtBot):
    window, session, kept = make(qtbot)
    qtbot.keyClicks(window.prompt, "wash")
    window.close()
    assert session.state is SessionState.STOPPED
    assert session.running == []
    assert [settings.stream.prompt for settings in kept] == ["inkwash"]
    window.close()
    assert len(kept) == 1
