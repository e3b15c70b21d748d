"""The dialogs, the canvas, the region and the presets, on a session with a scripted engine."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAction, QDesktopServices, QDropEvent, QGuiApplication, QTextDocument
from PySide6.QtWidgets import QLabel, QMenu, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot
from safetensors.torch import save_file

from app.cameras import Camera
from app.engine import Loaded
from app.fetching import Progress
from app.presets import load_preset
from app.screens import Screen
from app.settings import Settings
from app.sources import SourceError
from app.sources.camera import CameraSource
from app.sources.idle import IdleSource
from app.sources.screen import ScreenSource
from app.sources.video import VideoSource
from app.sources.window import WindowSource
from app.status import SessionState
from app.window_list import NoWindows
from app.window_list import Window as OtherWindow
from assets.sample import clip_path
from pipeline.adapter_list import parse_loras
from pipeline.models.errors import ModelError
from tests.app.fakes import FACTS, FakeEngine
from tests.ui.scripted import open_scripted, run_card
from ui import dialogs, presets, source_dialog
from ui.choice import Choice
from ui.dialogs import canvas_choice
from ui.region import RegionPicker
from ui.seek_bar import clock
from ui.source_dialog import SourceDialog
from ui.sources import watched
from ui.window import Window

# The primary screen is the right one, and the desktop begins left of it.
LEFT, RIGHT = Screen(1, -1920, 0, 1920, 1080), Screen(2, 0, 0, 2560, 1440)


def opened_dialog(qtbot: QtBot, window: Window) -> SourceDialog:
    """The source dialog, once everything has been looked for."""
    window.commands["source"].trigger()
    dialog = window.dialogs.source
    assert dialog is not None
    qtbot.waitUntil(lambda: "Looking" not in dialog.no_cameras.text() + dialog.no_windows.text())
    qtbot.waitUntil(lambda: "Looking" not in dialog.no_screens.text())
    return dialog


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setattr(source_dialog, "cameras", lambda: [Camera(0, "Lid"), Camera(2, "Logi")])
    monkeypatch.setattr(source_dialog, "windows", lambda: [OtherWindow(7, "Editor", 0, 0, 10, 10)])
    monkeypatch.setattr(source_dialog, "screens", lambda: [LEFT, RIGHT])
    made = open_scripted(qtbot, tmp_path)
    yield made
    made.close()
    assert made.session.running == []


def test_cameras_are_listed_by_name_and_opened_only_when_used(qtbot: QtBot, window: Window):
    dialog = opened_dialog(qtbot, window)
    dialog.kinds.setCurrentRow(0)
    assert [dialog.cameras.item(row).text() for row in range(dialog.cameras.count())] == ["Lid", "Logi"]
    dialog.cameras.setCurrentRow(1)
    dialog.size_.setCurrentText("1280x720")
    assert dialog.choice() == Choice("camera:2@1280x720", "Logi")
    assert isinstance(window.switch.source, IdleSource)
    dialog.mirror.click()
    assert window.editor.value("mirror")
    dialog.kinds.setCurrentRow(5)
    dialog.samples.setCurrentRow(1)
    qtbot.mouseClick(dialog.use, Qt.MouseButton.LeftButton)
    assert window.switch.choice.name == "Moving test card"


def test_a_camera_that_is_plugged_in_appears(qtbot: QtBot, window: Window, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_dialog, "cameras", list)
    dialog = opened_dialog(qtbot, window)
    dialog.kinds.setCurrentRow(0)
    assert "No camera" in dialog.no_cameras.text()
    assert not dialog.use.isEnabled()
    monkeypatch.setattr(source_dialog, "cameras", lambda: [Camera(0, "Lid")])
    qtbot.waitUntil(lambda: dialog.choice() is not None)
    assert dialog.choice() == Choice("camera:0@640x480", "Lid")
    assert dialog.use.isEnabled()


def test_a_listing_that_takes_its_time_does_not_hold_up_the_window(
    qtbot: QtBot, window: Window, monkeypatch: pytest.MonkeyPatch
):
    looking, go_on = threading.Event(), threading.Event()

    def look() -> list[Camera]:
        looking.set()
        assert go_on.wait(30)
        return [Camera(0, "Lid")]

    monkeypatch.setattr(source_dialog, "cameras", look)
    window.commands["source"].trigger()
    dialog = window.dialogs.source
    assert dialog is not None
    assert looking.wait(30)
    dialog.kinds.setCurrentRow(0)
    dialog.look()  # would wait for ever, if it waited
    assert dialog.no_cameras.text() == "Looking…"
    assert not dialog.use.isEnabled()
    go_on.set()
    qtbot.waitUntil(lambda: dialog.choice() == Choice("camera:0@640x480", "Lid"))


@pytest.mark.parametrize("size", ["1280x720", "800x600"])
def test_the_dialog_keeps_the_size_that_the_camera_runs_at(qtbot: QtBot, window: Window, size: str):
    running = Choice(f"camera:2@{size}", "Logi")
    window.switch.choice = running
    dialog = opened_dialog(qtbot, window)
    assert dialog.choice() == running
    offered = [dialog.size_.itemText(row) for row in range(dialog.size_.count())]
    assert offered.count(size) == 1
    assert {"640x480", "3840x2160"} <= set(offered)


def test_windows_screens_and_files_can_be_chosen(
    qtbot: QtBot, window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dialog = opened_dialog(qtbot, window)
    dialog.kinds.setCurrentRow(1)
    assert dialog.choice() == Choice("screen:1", "Screen 1  ·  1920 × 1080")
    dialog.screens.setCurrentRow(1)
    assert dialog.choice() == Choice("screen:2", "Screen 2  ·  2560 × 1440")
    dialog.kinds.setCurrentRow(2)
    assert dialog.choice() == Choice("window:7", "Editor")
    dialog.kinds.setCurrentRow(3)
    assert dialog.choice() is None
    dialog.take_file(tmp_path / "a.mp4")
    assert dialog.choice() == Choice(str(tmp_path / "a.mp4"), "a.mp4")
    dialog.kinds.setCurrentRow(4)
    assert dialog.choice() == canvas_choice()

    def refuse() -> list[OtherWindow]:
        raise NoWindows("not on this system")

    def refuse_too() -> list[Screen]:
        raise SourceError("There is no display")

    monkeypatch.setattr(source_dialog, "windows", refuse)
    monkeypatch.setattr(source_dialog, "screens", refuse_too)
    qtbot.waitUntil(lambda: dialog.no_windows.text() == "not on this system")
    qtbot.waitUntil(lambda: dialog.no_screens.text() == "There is no display")


def test_a_source_that_is_none_is_said_and_the_old_one_goes_on(window: Window):
    before = window.switch.choice
    assert not window.switch.choose(Choice("nonsense", "nonsense"))
    assert "is no file or folder" in window.toast.text
    assert window.switch.choice == before


def test_a_pause_closes_the_source(qtbot: QtBot, window: Window):
    run_card(qtbot, window)
    window.commands["pause"].trigger()
    assert isinstance(window.switch.source, IdleSource)
    qtbot.waitUntil(lambda: "Paused" in window.banner.text)
    window.banner.button.click()
    assert not window.switch.paused
    qtbot.waitUntil(lambda: window.session.state is SessionState.RUNNING)


class SlowDriver:
    """A camera whose driver takes until ``opens`` to open it, and until ``lets_go`` to let go of it."""

    def __init__(self) -> None:
        self.opens, self.lets_go = threading.Event(), threading.Event()

    def connect(self, _: int) -> SlowDriver:
        assert self.opens.wait(30)
        return self

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        return True, np.full((48, 64, 3), 99, np.uint8)

    def get(self, propId: int, /) -> float:
        return 30.0

    def set(self, propId: int, value: float, /) -> bool:
        return True

    def release(self) -> None:
        assert self.lets_go.wait(30)


def test_the_light_is_on_from_the_opening_of_a_camera_until_its_driver_has_let_go(
    qtbot: QtBot, window: Window, monkeypatch: pytest.MonkeyPatch
):
    driver = SlowDriver()
    monkeypatch.setattr("app.sources.camera._connect", driver.connect)
    light = window.toolbar.watched
    assert light.text() == ""
    window.switch.choose(Choice("camera:0", "Lid"))
    qtbot.waitUntil(lambda: light.text() == "Camera on")
    assert window.session.state is SessionState.STARTING
    driver.opens.set()
    qtbot.waitUntil(lambda: window.viewer.frame is not None)
    assert light.text() == "Camera on"
    window.switch.choose(Choice("testcard:width=64,height=64,fps=100", "Card"))
    qtbot.waitUntil(lambda: window.session.state is SessionState.RUNNING)
    window._refresh()
    assert light.text() == "Camera on", "the driver has not let go of it"
    driver.lets_go.set()
    qtbot.waitUntil(lambda: light.text() == "")


def test_the_light_is_off_where_there_is_no_camera(qtbot: QtBot, window: Window):
    window.switch.choose(Choice("camera:77", "Gone"))
    qtbot.waitUntil(lambda: window.session.state is SessionState.STALLED)
    qtbot.waitUntil(lambda: window.banner.button.text() == "Choose a source")
    qtbot.waitUntil(lambda: window.toolbar.watched.text() == "")


def test_the_light_says_all_that_is_watched():
    sources = [CameraSource(0), WindowSource("Editor"), ScreenSource(1), CameraSource(1), IdleSource()]
    assert watched(sources) == "Camera on  ·  Window shared  ·  Screen shared"
    assert watched([IdleSource()]) == ""


def test_a_clip_goes_on_after_a_pause_where_it_was(qtbot: QtBot, window: Window):
    window.switch.choose(Choice(str(clip_path()), "Clip"))
    clip = window.switch.video
    assert clip is not None
    clip.loop = False
    clip.seek(3.0)
    qtbot.waitUntil(lambda: clip.position >= 3.0)
    window.commands["pause"].trigger()
    assert window.switch.video is None
    qtbot.waitUntil(lambda: not any(isinstance(one, VideoSource) for one in window.session.open_sources))
    left_at = clip.position
    window.commands["pause"].trigger()
    again = window.switch.video
    assert again is not None
    assert again is not clip
    assert not again.loop
    qtbot.waitUntil(lambda: again.position > 0)
    assert again.position >= left_at


def test_painting_changes_the_drawing_and_can_be_undone(qtbot: QtBot, window: Window):
    window.commands["canvas"].trigger()
    assert window.canvas.isVisible()
    drawing = window.switch.drawing
    paper = window.canvas.paper
    window.canvas.swatches[2].click()
    qtbot.mousePress(paper, Qt.MouseButton.LeftButton, pos=paper.rect().center())
    qtbot.mouseMove(paper, paper.rect().center() + QPoint(30, 0))
    qtbot.mouseRelease(paper, Qt.MouseButton.LeftButton, pos=paper.rect().center() + QPoint(30, 0))
    middle = tuple(drawing.look().pixels[256, 256])
    assert middle == paper.brush.colour
    window.canvas.undo.click()
    assert tuple(drawing.look().pixels[256, 256]) == (255, 255, 255)
    window.canvas.redo.click()
    window.canvas.eraser.click()
    assert paper.brush.eraser
    window.canvas.clear.click()
    assert tuple(drawing.look().pixels[256, 256]) == (255, 255, 255)
    window.switch.choose(Choice("testcard", "Card"))
    assert not window.canvas.isVisible()


def test_a_picture_is_laid_on_the_paper(window: Window, tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64, 3), 9, np.uint8))
    window.dialogs.lay_on_paper(tmp_path / "a.png")
    assert tuple(window.switch.drawing.look().pixels[256, 256]) == (9, 9, 9)
    window.dialogs.lay_on_paper(tmp_path / "none.png")
    assert "cannot be read" in window.toast.text


def test_a_region_is_drawn_by_mouse(qtbot: QtBot):
    screen = QGuiApplication.primaryScreen()
    width, height = screen.size().toTuple()
    # Read in units of which one and a half are a point of Qt's.
    picker = RegionPicker(screen, Screen(2, 0, 0, width * 3 // 2, height * 3 // 2))
    picker.show()
    found: list[tuple[int, tuple[int, ...]]] = []

    picker.picked.connect(lambda number, region: found.append((number, region)))
    qtbot.mouseClick(picker, Qt.MouseButton.LeftButton, pos=QPoint(5, 5))
    assert not found
    qtbot.mousePress(picker, Qt.MouseButton.LeftButton, pos=QPoint(300, 200))
    qtbot.mouseMove(picker, QPoint(100, 50))
    assert picker.region == (150, 75, 300, 225)
    picker.grab()
    qtbot.mouseRelease(picker, Qt.MouseButton.LeftButton, pos=QPoint(100, 50))
    assert found == [(2, (150, 75, 300, 225))]


def test_every_screen_can_be_drawn_on_and_one_region_is_taken(
    qtbot: QtBot, window: Window, monkeypatch: pytest.MonkeyPatch
):
    screen = QGuiApplication.primaryScreen()
    width, height = screen.size().toTuple()
    monkeypatch.setattr(dialogs, "screens", lambda: [LEFT, Screen(2, 0, 0, width, height)])
    window.dialogs.pick_region()
    assert len(window.dialogs.pickers) == len(QGuiApplication.screens())
    window.dialogs.pickers[0].picked.emit(2, (10, 20, 300, 200))
    assert window.switch.choice == Choice("screen:2:10,20,300,200", "Region 300 × 200")
    assert window.dialogs.pickers == []
    window.dialogs.pick_region()
    picker = window.dialogs.pickers[0]
    qtbot.mousePress(picker, Qt.MouseButton.LeftButton, pos=QPoint(width - 100, height - 100))
    qtbot.mouseRelease(picker, Qt.MouseButton.LeftButton, pos=QPoint(width + 50, height + 50))
    assert window.switch.choice.spec == f"screen:2:{width - 100},{height - 100},100,100", "on the screen at (0, 0)"
    window.dialogs.pick_region()
    window.dialogs.pickers[0].cancelled.emit()
    assert window.dialogs.pickers == []

    def refuse() -> list[Screen]:
        raise SourceError("There is no display")

    monkeypatch.setattr(dialogs, "screens", refuse)
    window.dialogs.pick_region()
    assert window.toast.text == "There is no display"


def test_escape_gives_up_a_region(qtbot: QtBot):
    picker = RegionPicker(QGuiApplication.primaryScreen(), RIGHT)
    picker.show()
    with qtbot.waitSignal(picker.cancelled):
        qtbot.keyClick(picker, Qt.Key.Key_Escape)


def test_looks_are_kept_taken_up_and_undone(window: Window, tmp_path: Path):
    window.editor.change(strength=0.3)
    assert window.presets.save("Soft")
    window.editor.change(strength=0.9)
    (soft,) = (tmp_path / "presets").glob("*.toml")
    assert window.presets.menu().actions()[0].text() == "Soft"
    assert window.presets.apply(soft)
    assert window.editor.value("strength") == 0.3
    window.commands["undo"].trigger()
    assert window.editor.value("strength") == 0.9
    soft.write_text("not a preset", encoding="utf-8")
    assert not window.presets.apply(soft)
    assert "cannot be understood" in window.toast.text


@pytest.mark.parametrize("replaced", [True, False])
def test_a_look_of_the_same_name_is_replaced_only_if_the_user_says_so(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
):
    asked: list[str] = []

    def answer(*words: object) -> QMessageBox.StandardButton:
        asked.append(str(words[-1]))
        return QMessageBox.StandardButton.Yes if replaced else QMessageBox.StandardButton.No

    monkeypatch.setattr(presets.QInputDialog, "getText", lambda *_: (" Soft ", True))
    monkeypatch.setattr(presets.QMessageBox, "question", answer)
    for strength in (0.3, 0.9):
        window.editor.change(strength=strength)
        window.presets._ask_name()
    (soft,) = (tmp_path / "presets").glob("*.toml")
    assert load_preset(soft)[0].settings.stream.strength == (0.9 if replaced else 0.3)
    assert asked == ["There is a preset “Soft” already. Replace it?"]


def test_files_can_be_dropped(qtbot: QtBot, window: Window, tmp_path: Path):
    run_card(qtbot, window)
    window.editor.change(strength=0.3)
    qtbot.waitUntil(lambda: _strength_of_the_picture(window) == 0.3)
    with qtbot.waitSignal(window.sinks.told):
        window.sinks.snapshot(tmp_path)
    (snapshot,) = tmp_path.glob("*.png")
    window.presets.save("Soft")
    window.editor.change(strength=0.9)
    window.drops.take([str(snapshot)], QPoint())
    assert window.editor.value("strength") == 0.3
    window.editor.change(strength=0.9)
    window.drops.take([str(tmp_path / "presets" / "Soft.toml")], QPoint())
    assert window.editor.value("strength") == 0.3


def test_of_a_picture_that_is_dropped_it_is_asked_what_it_is_for(qtbot: QtBot, window: Window, tmp_path: Path):
    run_card(qtbot, window)
    path = tmp_path / "plain;.png"
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))

    def offered() -> dict[str, QAction]:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        nothing = Qt.KeyboardModifier.NoModifier
        event = QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, nothing)
        window.dropEvent(event)
        menu = next(one for one in window.findChildren(QMenu) if one.isVisible())
        found = {action.text(): action for action in menu.actions()}
        menu.hide()
        return found

    offered()["Look like this picture"].trigger()
    assert parse_loras(window.editor.text("look_like")) == ((str(path), 1.0),)
    assert window.toast.text == "The picture now takes its look from plain;.png."
    offered()["Put it behind the person"].trigger()
    assert window.editor.text("background") == str(path)
    offered()["Show it as the source"].trigger()
    assert window.switch.choice.name == "plain;.png"


def test_the_frame_of_now_becomes_what_the_picture_looks_like(qtbot: QtBot, window: Window, tmp_path: Path):
    window.references.look_like_now(tmp_path)
    assert window.toast.text == "There is no picture yet."
    run_card(qtbot, window)
    window.references.look_like_now(tmp_path)
    qtbot.waitUntil(lambda: bool(window.editor.text("look_like")))
    ((kept, weight),) = parse_loras(window.editor.text("look_like"))
    assert Path(kept).parent == tmp_path
    assert weight == 1
    picture = cv2.imread(kept)
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    window.commands["undo"].trigger()
    assert window.editor.text("look_like") == ""
    (tmp_path / "file").write_text("")
    window.references.look_like_now(tmp_path / "file")
    qtbot.waitUntil(lambda: "is not a folder" in window.toast.text)


def test_a_snapshot_is_opened_and_found_from_where_it_is_told(
    qtbot: QtBot, window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    run_card(qtbot, window)
    window.sinks.snapshot(tmp_path)
    qtbot.waitUntil(lambda: window.toast.text.startswith("Saved"))
    assert (window.toast.button.text(), window.toast.second.text()) == ("Open", "Show in folder")
    window.toast.button.click()
    window.toast.second.click()
    (snapshot,) = tmp_path.glob("*.png")
    assert opened == [str(snapshot), str(tmp_path)]


def _strength_of_the_picture(window: Window) -> float | None:
    settings = window.viewer.frame.settings if window.viewer.frame is not None else None
    return settings.stream.strength if settings is not None else None


def test_on_wayland_the_dialog_says_what_works_instead(window: Window, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_dialog, "on_wayland", lambda: True)
    window.commands["source"].trigger()
    dialog = window.dialogs.source
    assert dialog is not None
    dialog.kinds.setCurrentRow(1)
    page = dialog.pages.currentWidget()
    assert page is not None
    assert any("OBS Studio" in label.text() for label in page.findChildren(QLabel))
    assert dialog.choice() is None
    assert not dialog.use.isEnabled()
    page.findChildren(QPushButton)[0].click()
    assert dialog.kinds.currentRow() == 0  # where OBS's virtual camera is listed


def test_loras_are_dropped_added_and_removed(qtbot: QtBot, window: Window, tmp_path: Path):
    run_card(qtbot, window)
    path = tmp_path / "ink.safetensors"
    save_file({"unet.down.lora_A.weight": torch.zeros(2, 2)}, path)
    window.commands["model"].trigger()
    dialog = window.dialogs.models
    assert dialog is not None
    assert dialog.added.text() == "No LoRA is added to it."
    window.drops.take([str(path)], QPoint())
    assert window.editor.value("loras") == str(path)
    assert window.toast.text == "ink.safetensors is taken as a LoRA."
    assert dialog.added.text() == "With it: ink."
    dialog.remove.click()
    assert window.editor.value("loras") == ""
    dialog.weights_chosen.emit(path)
    assert window.editor.value("loras") == str(path)
    path.write_bytes(b"")
    window.drops.take([str(path)], QPoint())
    assert "is empty" in window.toast.text


def test_a_model_that_cannot_be_loaded_is_said_and_the_old_one_serves(qtbot: QtBot, tmp_path: Path):
    loaded = threading.Event()

    def load(settings: Settings, _: Progress) -> Loaded:
        if settings.model == "/nowhere":
            loaded.wait(60)
            raise ModelError("it is broken")
        return Loaded(FakeEngine(settings.stream), FACTS)

    window = open_scripted(qtbot, tmp_path, load)
    run_card(qtbot, window)
    window.commands["model"].trigger()
    dialog = window.dialogs.models
    assert dialog is not None
    dialog.kinds[1].click()
    assert not dialog.use.isEnabled()
    dialog.place.setText("/nowhere")
    assert dialog.spec() == "/nowhere"
    dialog.use.click()
    qtbot.waitUntil(lambda: dialog.note.text() == "Loading “/nowhere”. “fake” goes on meanwhile.")
    dialog.stop.click()
    assert window.session.settings.model == "embedded"
    dialog.use.click()
    assert window.session.settings.model == "/nowhere"
    loaded.set()
    qtbot.waitUntil(lambda: dialog.note.text() == "/nowhere: it is broken; the model before it goes on")
    window.close()


def test_a_download_shows_how_far_it_is_and_can_be_given_up(qtbot: QtBot, window: Window):
    run_card(qtbot, window)
    window.commands["model"].trigger()
    dialog = window.dialogs.models
    assert dialog is not None
    dialog.show_serving("fake", loading=True)
    assert (dialog.progress.minimum(), dialog.progress.maximum()) == (0, 0)  # it only says that something is going on
    window.editor.change(model="a/b")
    dialog.show_serving("fake", loading=True, fetched=(500_000_000, 2_000_000_000))
    assert dialog.progress.value() / dialog.progress.maximum() == 0.25
    assert dialog.note.text() == "Fetching a/b: 500 of 2,000 MB (25 %). “fake” goes on meanwhile."
    assert dialog.stop.text() == "Keep the old one"
    dialog.show_serving("", loading=True, fetched=(1, 2))
    assert (dialog.stop.text(), dialog.stop.isHidden()) == ("Cancel", False)


def test_the_clean_feed_shows_the_picture_alone(qtbot: QtBot, window: Window):
    run_card(qtbot, window)
    window.commands["clean_feed"].trigger()
    feed = window.dialogs.feed
    assert feed is not None
    qtbot.waitUntil(lambda: feed.viewer.frame is not None)
    assert feed.windowFlags() & Qt.WindowType.FramelessWindowHint
    at = feed.pos()
    qtbot.mousePress(feed, Qt.MouseButton.LeftButton, pos=QPoint(30, 30))
    qtbot.mouseMove(feed, QPoint(50, 40))
    qtbot.mouseRelease(feed, Qt.MouseButton.LeftButton, pos=QPoint(50, 40))
    assert feed.pos() != at
    qtbot.keyClick(feed, Qt.Key.Key_Escape)
    assert window.dialogs.feed is None
    assert not window.commands["clean_feed"].isChecked()


def test_full_screen_leaves_the_picture_alone(qtbot: QtBot, window: Window):
    window.commands["full_screen"].trigger()
    assert window.toolbar.isHidden()
    assert window.prompt_bar.isHidden()
    qtbot.waitUntil(lambda: window.viewer.cursor().shape() is Qt.CursorShape.BlankCursor)
    assert window.banner.cursor().shape() is Qt.CursorShape.ArrowCursor  # its button is to be found
    qtbot.mouseMove(window.viewer, QPoint(40, 40))
    assert window.viewer.cursor().shape() is Qt.CursorShape.ArrowCursor
    qtbot.waitUntil(lambda: window.viewer.cursor().shape() is Qt.CursorShape.BlankCursor)
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert window.viewer.cursor().shape() is Qt.CursorShape.ArrowCursor
    assert not window.toolbar.isHidden()
    assert not window.windowState() & Qt.WindowState.WindowFullScreen


def test_earlier_prompts_come_back_and_a_free_seed_changes_with_them(window: Window):
    window._keep_prompt()
    window.panel.hold.click()
    window.prompt_bar.prompt.setText("a mosaic")
    window.prompt_bar.prompt.settle()
    assert window.editor.value("seed") != 0
    window._keep_prompt()
    texts = [action.text() for action in window.prompt_bar.recent_menu.actions()]
    assert texts == ["a mosaic", "ink"]
    window.prompt_bar.recent_menu.actions()[1].trigger()
    assert window.editor.value("prompt") == "ink"
    window.panel.shuffle.click()
    assert window.editor.undo_label == "seed"


def test_a_second_prompt_is_blended_in(window: Window):
    row = window.prompt_bar.blend
    assert row is not None
    assert not row.slider.isEnabled()
    row.words.setText("neon lights")
    row.words.settle()
    row.slider.setValue(40)
    row.seconds.setValue(2)
    stream = window.session.settings.stream
    assert (stream.prompt_b, stream.blend, stream.transition) == ("neon lights", 0.4, 2.0)


def test_numbers_and_meter_follow(qtbot: QtBot, window: Window):
    run_card(qtbot, window)
    window.editor.change(similarity_filter=True)
    window.side.show_page(1)
    qtbot.waitUntil(lambda: window.numbers.fps.newest != [] and "late" in window.numbers.latency.text())
    assert window.numbers.fact("Device") == "cpu"
    assert "0.500" in window.panel.similarity.words.text()
    window.numbers.grab()
    window.panel.similarity.grab()


def test_everything_can_be_reached_by_keyboard(window: Window):
    reached = set()
    first = widget = window.prompt_bar.prompt
    while (widget := widget.nextInFocusChain()) is not first:
        assert widget is not None
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            reached.add(widget)
    assert {control.part for control in window.panel.controls.values()} <= reached
    assert {window.toolbar.source, window.side.model, window.side.presets, *window.toolbar.modes.values()} <= reached
    shown = [one for one in reached if one.isVisibleTo(window)]
    nameless = [one for one in shown if not one.accessibleName() and not getattr(one, "text", str)()]
    assert nameless == []


def test_times_are_written_as_clocks():
    assert [clock(0), clock(65), clock(3723), clock(-3)] == ["0:00", "1:05", "1:02:03", "0:00"]


def test_a_control_without_effect_on_the_model_says_why(window: Window):
    control = window.panel.controls["keep_shape"]
    assert control.isEnabled()
    reason = "There is none for Vitrail's own <model>."
    window.panel.show_model(replace(FACTS, unsupported={"keep_shape": reason}))
    assert not control.isEnabled()
    shown = QTextDocument()
    assert control.note.textFormat() is Qt.TextFormat.RichText
    shown.setHtml(control.note.text())
    assert shown.toPlainText().strip() == reason
    window.panel.show_model(FACTS)
    assert control.isEnabled()
    assert not control.note.isVisibleTo(control)
