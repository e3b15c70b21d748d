"""Recording and snapshot beside the picture, on a session with a scripted engine."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.status import SessionState
from tests.ui.scripted import open_scripted, run_card
from ui.window import Window


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[Window]:
    made = open_scripted(qtbot, tmp_path)
    yield made
    made.close()
    assert made.session.running == []


@pytest.fixture
def told(window: Window) -> list[str]:
    """What the sinks say; the toast has it in turn."""
    heard: list[str] = []
    window.sinks.told.connect(lambda text, *_: heard.append(text))
    return heard


def says(told: list[str], word: str) -> bool:
    return any(text.startswith(word) for text in told)


def test_record_and_snapshot_beside_the_picture(qtbot: QtBot, window: Window, told: list[str], tmp_path: Path):
    run_card(qtbot, window)
    window.sinks.record(True, tmp_path)
    assert window.commands["record"].isChecked()
    recorder = window.sinks.recorder
    assert recorder is not None
    qtbot.waitUntil(lambda: recorder.written > 2)
    window.sinks.snapshot(tmp_path)
    window.sinks.record(False)
    assert not window.commands["record"].isChecked()
    qtbot.waitUntil(lambda: says(told, "Saved") and says(told, "Recorded"))
    assert window.toast.text == told[0]  # the other has its turn
    assert window.sinks.recording == ""
    assert len(list(tmp_path.glob("*.mp4"))) == len(list(tmp_path.glob("*.png"))) == 1


def test_a_recording_without_a_picture_is_not_said_to_be_one(
    qtbot: QtBot, window: Window, told: list[str], tmp_path: Path
):
    window.sinks.record(True, tmp_path)  # nothing is watched yet
    window.sinks.record(False)
    qtbot.waitUntil(lambda: bool(told))
    assert told == ["Nothing was recorded: no picture came in that time."]
    assert list(tmp_path.glob("*.mp4")) == []


def test_a_long_end_of_a_recording_holds_nothing_up_and_is_shown(
    qtbot: QtBot, window: Window, told: list[str], tmp_path: Path
):
    run_card(qtbot, window)
    window.sinks.record(True, tmp_path)
    recorder = window.sinks.recorder
    assert recorder is not None
    qtbot.waitUntil(lambda: recorder.written > 2)
    go_on, close = threading.Event(), recorder.sink.close
    recorder.sink.close = lambda: (go_on.wait(20), close())[1]  # an encoder with much left to do
    window.sinks.record(False)  # returns, although the recording has not come to its end
    assert window.sinks.recording == "finishing…"
    assert "finishing" in window.toolbar.recording_time.text()
    frames = window.session.metrics().frames_out
    qtbot.waitUntil(lambda: window.session.metrics().frames_out > frames + 3)
    go_on.set()
    qtbot.waitUntil(lambda: says(told, "Recorded"))
    assert not window.toolbar.recording_time.isVisible()


def test_closing_the_window_waits_for_the_end_of_a_recording(qtbot: QtBot, window: Window, tmp_path: Path):
    run_card(qtbot, window)
    window.sinks.record(True, tmp_path)
    recorder = window.sinks.recorder
    assert recorder is not None
    qtbot.waitUntil(lambda: recorder.written > 2)
    window.sinks.snapshot(tmp_path)
    window.close()
    assert recorder.finished
    assert len(list(tmp_path.glob("*.mp4"))) == len(list(tmp_path.glob("*.png"))) == 1


def test_a_folder_that_takes_nothing_is_said(qtbot: QtBot, window: Window, told: list[str], tmp_path: Path):
    (tmp_path / "file").write_text("")
    window.sinks.snapshot(tmp_path)
    assert "no picture yet" in window.toast.text
    run_card(qtbot, window)
    window.sinks.record(True, tmp_path / "file")
    assert "is not a folder" in told[-1]
    assert not window.commands["record"].isChecked()
    window.sinks.snapshot(tmp_path / "file")
    qtbot.waitUntil(lambda: len(told) == 3)
    assert "is not a folder" in told[-1]
    assert window.session.state is SessionState.RUNNING


def test_a_recording_whose_file_is_gone_ends_with_words(qtbot: QtBot, window: Window, tmp_path: Path):
    run_card(qtbot, window)
    window.sinks.record(True, tmp_path)
    recorder = window.sinks.recorder
    assert recorder is not None
    qtbot.waitUntil(recorder.path.exists)
    recorder.path.unlink()
    qtbot.waitUntil(lambda: window.sinks.recorder is None)
    assert "deleted or moved" in window.session.notices[-1].message
    qtbot.waitUntil(lambda: not window.commands["record"].isChecked())
