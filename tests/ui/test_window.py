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
from pipeline.config import StreamConfig
from tests.app.fakes import FakeEngine, FakeSource, loader_of
from ui.bridge import Bridge
from ui.choice import Choice
from ui.layout import Mode
from ui.state import WindowState
from ui.theme import Appearance, current
from ui.window import Window

Running = tuple[Window, Session, list[Settings]]


def make(
    qtbot: QtBot, source: Source | None = None, state: WindowState | None = None, engine: FakeEngine | None = None
) -> Running:
    kept: list[Settings] = []
    bridge = Bridge()
    source = source or TestCardSource(width=64, height=64, fps=100, live=True)
    session = Session(
        source,
        Settings(stream=StreamConfig(prompt="ink")),
        [CallbackSink(bridge.put)],
        loader=loader_of(engine or FakeEngine(), FakeEngine()),
        listener=bridge.tell,
    )
    choice = Choice("testcard", "Test card")
    window = Window(
        session, bridge, choice, source, state=state, on_close=lambda one: kept.append(one.session.settings)
    )
    qtbot.addWidget(window)
    session.start()
    window.show()
    return window, session, kept


@pytest.fixture
def running(qtbot: QtBot) -> Iterator[Running]:
    window, session, kept = make(qtbot)
    yield window, session, kept
    window.close()
    assert session.running == []


def test_pictures_arrive_and_the_banner_goes(qtbot: QtBot, running: Running):
    window, _, _ = running
    qtbot.waitUntil(lambda: window.viewer.frame is not None)
    qtbot.waitUntil(lambda: window.banner.text == "")
    qtbot.waitUntil(lambda: "frames a second" in window.strip.speed.text())
    assert "fake" in window.side.model.text()
    assert "cpu" in window.strip.picture.text()


def test_a_prompt_counts_once_the_typing_pauses(qtbot: QtBot, running: Running):
    window, session, _ = running
    assert window.prompt_bar.prompt.text() == "ink"
    window.prompt_bar.prompt.clear()
    window.prompt_bar.prompt.typing.setInterval(3_600_000)
    qtbot.keyClicks(window.prompt_bar.prompt, "a pencil")
    assert session.settings.stream.prompt == "ink"
    window.prompt_bar.prompt.typing.start(1)
    qtbot.waitUntil(lambda: session.settings.stream.prompt == "a pencil")


def test_enter_does_not_wait_for_the_pause(qtbot: QtBot, running: Running):
    window, session, _ = running
    qtbot.keyClicks(window.prompt_bar.prompt, "!")
    qtbot.keyClick(window.prompt_bar.prompt, Qt.Key.Key_Return)
    assert session.settings.stream.prompt == "ink!"


def test_sliders_and_switch_change_the_session(qtbot: QtBot, running: Running):
    window, session, _ = running
    strength, skip = window.panel.controls["strength"], window.panel.controls["similarity_filter"]
    threshold = window.panel.controls["similarity_threshold"]
    qtbot.keyClick(strength.part, Qt.Key.Key_End)
    assert session.settings.stream.strength == 1.0
    assert not threshold.isEnabled()
    qtbot.keyClick(skip.part, Qt.Key.Key_Space)
    assert session.settings.stream.similarity_filter
    assert threshold.isEnabled()
    qtbot.keyClick(threshold.part, Qt.Key.Key_Home)
    assert session.settings.stream.similarity_threshold == 0.0
    assert session.settings.stream.prompt == "ink"


def test_every_change_can_be_undone_and_done_again(qtbot: QtBot, running: Running):
    window, session, _ = running
    before = session.settings
    assert not window.commands["undo"].isEnabled()
    qtbot.keyClick(window.panel.controls["strength"].part, Qt.Key.Key_End)
    window.prompt_bar.chips.buttons[1].click()
    assert session.settings.stream.prompt == "a pencil sketch"
    window.commands["undo"].trigger()
    assert (session.settings.stream.prompt, window.prompt_bar.prompt.text()) == ("ink", "ink")
    window.commands["undo"].trigger()
    assert session.settings == before
    window.commands["redo"].trigger()
    assert session.settings.stream.strength == 1.0
    window.panel.controls["strength"].reset.click()
    assert session.settings.stream.strength == 0.8


def test_what_is_refused_is_said_and_not_taken(running: Running):
    window, session, _ = running
    assert not window.editor.change(strength=4)
    assert "between 0.05 and 1" in window.panel.controls["strength"].problem.text()
    assert "between 0.05 and 1" in window.toast.text
    assert session.settings.stream.strength == 0.8


def test_the_look_is_kept(qtbot: QtBot, running: Running):
    window, *_ = running
    qtbot.waitUntil(lambda: window.viewer.frame is not None)
    window.commands["theme"].trigger()
    window.commands["view_split"].trigger()
    window.commands["panel"].trigger()
    window.side.show_page(1)
    window.panel.hold.click()
    state = window.state()
    assert (state.theme, state.mode, state.panel) == ("light", "before and after", False)
    assert state.start_seconds > 0
    other, *_ = make(qtbot, state=state)
    assert current().appearance is Appearance.LIGHT
    assert other.viewer.mode is Mode.SPLIT
    assert other.side.isHidden()
    assert other.side.pages.currentIndex() == 1
    assert other.side.tabs[1].isChecked()
    assert not other.panel.hold.isChecked()
    other.close()


def test_a_failure_is_written_over_the_picture(qtbot: QtBot):
    def fail(_: int) -> None:
        raise RuntimeError("the picture fell off the wall")

    window, session, _ = make(qtbot, FakeSource(script=fail))
    qtbot.waitUntil(lambda: session.state is SessionState.FAILED)
    qtbot.waitUntil(lambda: "the picture fell off the wall" in window.banner.text)
    with qtbot.waitSignal(window.restart_asked):
        window.banner.button.click()
    window.close()


def test_closing_ends_the_session_and_keeps_what_was_typed_last(qtbot: QtBot):
    window, session, kept = make(qtbot)
    qtbot.keyClicks(window.prompt_bar.prompt, "wash")
    window.close()
    assert session.state is SessionState.STOPPED
    assert session.running == []
    assert [settings.stream.prompt for settings in kept] == ["inkwash"]
    window.close()
    assert len(kept) == 1
