"""A scripted visit on a real session with the embedded model: everything once, and nothing is left behind."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PySide6.QtCore import QPoint, Qt
from pytestqt.qtbot import QtBot

from app.snapshot import settings_of_snapshot
from app.sources.video import VideoSource
from app.status import SessionState
from assets.sample import clip_path
from tests.ui.real import Opened, QtWarnings, open_real, spin, wait_for
from ui.choice import Choice
from ui.dialogs import canvas_choice
from ui.layout import Mode


def pictures_come(opened: Opened, why: str) -> None:
    """Wait until the source of now is on the screen."""
    before = opened.session.metrics().frames_out
    wait_for(lambda: opened.session.metrics().frames_out > before + 1, f"no picture from {why}")
    wait_for(lambda: opened.session.state is SessionState.RUNNING, f"{why} does not run")


def write_and_slide(qtbot: QtBot, opened: Opened) -> None:
    window = opened.window
    window.prompt_bar.prompt.clear()
    qtbot.keyClicks(window.prompt_bar.prompt, "a mosaic")
    wait_for(lambda: opened.streams[-1].config.prompt == "a mosaic", "the prompt did not arrive")
    qtbot.keyClick(window.panel.controls["strength"].part, Qt.Key.Key_Home)
    qtbot.keyClick(window.panel.controls["similarity_filter"].part, Qt.Key.Key_Space)
    wait_for(lambda: opened.streams[-1].config.strength == 0.05, "the strength did not arrive")
    wait_for(lambda: opened.streams[-1].config.similarity_filter, "the filter did not arrive")


def visit_sources(qtbot: QtBot, opened: Opened, picture: Path) -> None:
    window = opened.window
    window.switch.choose(Choice(str(clip_path()), "Sample clip"))
    pictures_come(opened, "the clip")
    assert isinstance(window.switch.video, VideoSource)
    wait_for(lambda: not window.seek_bar.isHidden(), "no bar to wind the clip")
    window.switch.choose(Choice(str(picture), picture.name))
    pictures_come(opened, "the picture")
    window.switch.choose(canvas_choice())
    pictures_come(opened, "the canvas")
    paper = window.canvas.paper
    blank = paper.drawing.revision
    qtbot.mousePress(paper, Qt.MouseButton.LeftButton, pos=QPoint(60, 60))
    qtbot.mouseMove(paper, QPoint(120, 90))
    qtbot.mouseRelease(paper, Qt.MouseButton.LeftButton, pos=QPoint(120, 90))
    assert paper.drawing.revision > blank
    window.switch.choose(Choice("screen:1:0,0,96,64", "Region"))
    if os.environ.get("DISPLAY"):
        pictures_come(opened, "the region")
    else:
        wait_for(lambda: "display" in window.banner.text, "nobody says that there is no display")
    window.commands["pause"].trigger()
    wait_for(lambda: "Paused" in window.banner.text, "the pause is not said")
    window.commands["pause"].trigger()
    window.switch.choose(Choice("testcard:width=64,height=64", "Test card"))
    pictures_come(opened, "the test card")


def take_along(opened: Opened, folder: Path) -> None:
    window = opened.window
    told: list[str] = []
    window.sinks.told.connect(lambda text, *_: told.append(text))
    window.sinks.record(True, folder)
    recorder = window.sinks.recorder
    assert recorder is not None
    wait_for(lambda: recorder.written > 3, "nothing is recorded")
    window.sinks.snapshot(folder)
    window.sinks.record(False)
    for word in ("Recorded", "Saved"):
        wait_for(lambda word=word: any(text.startswith(word) for text in told), f"nothing is {word.lower()}")
    (video,) = folder.glob("*.mp4")
    source = VideoSource(video)
    source.open()
    frame = source.read()
    source.close()
    assert frame is not None
    (snapshot,) = folder.glob("*.png")
    found, _ = settings_of_snapshot(snapshot)
    assert found.stream.prompt == "a mosaic"


@pytest.mark.usefixtures("qapp")
def test_a_visit_leaves_nothing_behind(qtbot: QtBot, tmp_path: Path):
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), np.full((64, 96, 3), 120, np.uint8))
    files = {one.path for one in psutil.Process().open_files()}
    with QtWarnings() as warnings:
        opened = open_real(presets=tmp_path / "presets")
        window = opened.window
        wait_for(lambda: window.viewer.frame is not None, "no picture came")
        write_and_slide(qtbot, opened)
        visit_sources(qtbot, opened, picture)
        take_along(opened, tmp_path / "taken")
        for mode in Mode:
            window.show_mode(mode)
            spin(0.05)
        for name in ("clean_feed", "source", "model", "shortcuts", "theme", "full_screen", "zoom", "panel", "on_top"):
            window.commands[name].trigger()
            spin(0.05)
        assert window.dialogs.feed is not None
        assert window.presets.save("Mine")
        assert window.presets.apply(tmp_path / "presets" / "Mine.toml")
        window.side.show_page(1)
        spin(0.6)
        window.close()
        spin(0.1)
    assert warnings.found == []
    assert opened.session.running == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("vitrail")] == []
    assert {one.path for one in psutil.Process().open_files()} <= files
