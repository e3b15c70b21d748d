"""The canvas in the window: its keys, its pen, its files, and that a stroke is drawn again only where it is."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from PySide6.QtGui import QInputDevice, QPaintEvent, QPointingDevice, QTabletEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.drawing import Brush, Drawing
from app.drawing_file import canvas_folder, keep_drawing, kept_drawing
from app.session import Session
from tests.app.fakes import FakeEngine, loader_of
from tests.ui.scripted import open_scripted
from ui import main
from ui.choice import Choice
from ui.dialogs import canvas_choice
from ui.paper import Paper
from ui.window import Window

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
PAPER = (255, 255, 255)


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[Window]:
    opened = open_scripted(qtbot, tmp_path)
    opened.switch.choose(canvas_choice())
    yield opened
    opened.close()


def stroke(qtbot: QtBot, paper: Paper) -> None:
    """A stroke in the middle, with the mouse."""
    middle = paper.rect().center()
    qtbot.mousePress(paper, Qt.MouseButton.LeftButton, pos=middle)
    qtbot.mouseMove(paper, middle + QPoint(30, 0))
    qtbot.mouseRelease(paper, Qt.MouseButton.LeftButton, pos=middle + QPoint(30, 0))


def middle_of(drawing: Drawing) -> tuple[int, ...]:
    return tuple(int(part) for part in drawing.look().pixels[256, 256])


def test_undo_is_of_the_stroke_while_the_canvas_has_the_focus_and_of_the_setting_elsewhere(
    qtbot: QtBot, window: Window
):
    drawing, paper = window.switch.drawing, window.canvas.paper
    window.activateWindow()
    window.editor.change(strength=0.3)
    stroke(qtbot, paper)
    ink = middle_of(drawing)
    assert ink != PAPER
    qtbot.waitUntil(paper.hasFocus)  # the stroke brought it there
    qtbot.keyClick(paper, Qt.Key.Key_Z, CONTROL)
    assert (middle_of(drawing), window.session.settings.stream.strength) == (PAPER, 0.3)
    for key, modifiers in ((Qt.Key.Key_Z, CONTROL | SHIFT), (Qt.Key.Key_Y, CONTROL)):
        qtbot.keyClick(paper, key, modifiers)
        assert middle_of(drawing) == ink
        qtbot.keyClick(paper, Qt.Key.Key_Z, CONTROL)
        assert middle_of(drawing) == PAPER
    window.canvas.width_.setFocus()  # one of its tools
    qtbot.keyClick(window.canvas.width_, Qt.Key.Key_Y, CONTROL)
    assert middle_of(drawing) == ink
    window.panel.setFocus()
    window.setFocus()
    qtbot.keyClick(window, Qt.Key.Key_Z, CONTROL)
    assert middle_of(drawing) == ink
    assert window.session.settings.stream.strength != 0.3


def test_nothing_left_to_undo_on_the_canvas_is_nothing_and_no_setting(qtbot: QtBot, window: Window):
    window.activateWindow()
    window.editor.change(strength=0.3)
    window.canvas.paper.setFocus()
    qtbot.waitUntil(window.canvas.paper.hasFocus)
    qtbot.keyClick(window.canvas.paper, Qt.Key.Key_Z, CONTROL)
    assert window.session.settings.stream.strength == 0.3


def test_brackets_change_the_brush(qtbot: QtBot, window: Window):
    canvas = window.canvas
    sizes = []
    for key in "]][[[[":
        qtbot.keyClicks(canvas.paper, key)
        sizes.append(canvas.paper.brush.size)
    assert sizes[1] > sizes[0] > 14
    assert sizes[5] < sizes[4] < sizes[3] <= 14
    for _ in range(99):
        qtbot.keyClicks(canvas.paper, "[")
    assert canvas.paper.brush.size == canvas.width_.minimum()


def pen(kind: QEvent.Type, paper: Paper, at: QPoint, end: QPointingDevice.PointerType) -> None:
    """What Qt delivers of a pen whose ``end`` is down."""
    device = QPointingDevice("pen", 1, QInputDevice.DeviceType.Stylus, end, QInputDevice.Capability.Pressure, 1, 3)
    down = kind != QEvent.Type.TabletRelease
    button = Qt.MouseButton.LeftButton
    event = QTabletEvent(
        kind, device, QPointF(at), QPointF(paper.mapToGlobal(at)), 1.0 if down else 0.0, 0, 0, 0, 0, 0,
        Qt.KeyboardModifier.NoModifier, button, button if down else Qt.MouseButton.NoButton,
    )  # fmt: skip
    QApplication.sendEvent(paper, event)
    assert event.isAccepted()  # or Qt would paint it a second time, as the mouse


def test_a_pen_paints_and_its_other_end_erases(window: Window):
    drawing, paper = window.switch.drawing, window.canvas.paper
    middle = paper.rect().center()
    for end, expected in (
        (QPointingDevice.PointerType.Pen, paper.brush.colour),
        (QPointingDevice.PointerType.Eraser, PAPER),
    ):
        for kind, aside in (
            (QEvent.Type.TabletPress, -20),
            (QEvent.Type.TabletMove, 20),
            (QEvent.Type.TabletRelease, 20),
        ):
            pen(kind, paper, middle + QPoint(aside, 0), end)
        assert middle_of(drawing) == expected
    assert not paper.brush.eraser  # the next stroke of the tip paints


class Watched(Paper):
    """Notes what it was asked to paint."""

    def __init__(self, drawing: Drawing) -> None:
        self.painted_pixels: list[int] = []
        super().__init__(drawing, Brush((200, 0, 0), 12))

    def paintEvent(self, event: QPaintEvent) -> None:
        self.painted_pixels.append(event.rect().width() * event.rect().height())
        super().paintEvent(event)


def settled(paper: Watched) -> list[int]:
    """What it painted in answer to all that has happened."""
    QApplication.processEvents()
    found, paper.painted_pixels = paper.painted_pixels, []
    return found


def on_screen(paper: Paper) -> np.ndarray:
    """(height, width, 3) of what the widget shows now, without painting it again."""
    shown = paper.screen().grabWindow(paper.winId()).toImage()
    pixels = np.frombuffer(shown.constBits(), np.uint8).reshape(shown.height(), shown.bytesPerLine() // 4, 4)
    return pixels[..., :3].astype(int)


@pytest.mark.parametrize("size", [(512, 512), (1000, 300), (96, 2048)])
def test_a_stroke_is_drawn_where_it_is_and_as_a_whole_redraw_would(qtbot: QtBot, size: tuple[int, int]):
    paper = Watched(Drawing(*size))
    qtbot.addWidget(paper)
    paper.resize(450, 380)
    paper.show()
    paper.refresh()
    qtbot.waitExposed(paper)
    settled(paper)
    middle = paper.rect().center()
    qtbot.mousePress(paper, Qt.MouseButton.LeftButton, pos=middle)
    for aside in (6, 12):
        qtbot.mouseMove(paper, pos=middle + QPoint(aside, aside))
    paper.drawing.move(size[0] / 2 + 5, size[1] / 2 + 9)  # as another hand may paint
    paper.refresh()
    painted = settled(paper)
    assert painted
    assert max(painted) < paper.width() * paper.height() / 4
    in_pieces = on_screen(paper)
    paper.repaint()
    largest = int(np.abs(in_pieces - on_screen(paper)).max())
    assert largest <= 5  # of 255, as Qt rounds where a scaled picture is cut; a piece left out shows 90 and more


def test_a_drawing_is_saved_opened_and_laid(window: Window, tmp_path: Path):
    drawing = window.switch.drawing
    drawing.stroke([(256, 256)], Brush((1, 2, 3), 60))
    window.dialogs.save_drawing_as(tmp_path / "mine.png")
    assert window.toast.text == f"The drawing is saved as {tmp_path / 'mine.png'}."
    saved = cv2.imread(str(tmp_path / "mine.png"))
    assert saved is not None
    assert tuple(saved[256, 256]) == (3, 2, 1)
    window.dialogs.save_drawing_as(tmp_path / "mine.bmp")
    assert "name it .png" in window.toast.text


@pytest.mark.usefixtures("qapp")
def test_the_drawing_is_there_again_at_the_next_start_and_after_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(main, "missing_libraries", list)
    monkeypatch.setattr(
        main, "Session", partial(Session, loader=loader_of(FakeEngine(), FakeEngine(), FakeEngine(), FakeEngine()))
    )
    seen: list[tuple[int, ...]] = []

    def visible() -> Window:
        (found,) = (one for one in QApplication.topLevelWidgets() if isinstance(one, Window) and one.isVisible())
        return found

    def paint() -> None:
        visible().switch.drawing.stroke([(256, 256)], Brush((9, 8, 7), 60))
        visible()._restart()
        seen.append(middle_of(visible().switch.drawing))
        visible().close()

    def look() -> None:
        seen.append(middle_of(visible().switch.drawing))
        visible().close()

    for spec, act in (("testcard:width=64,height=64", paint), ("canvas", look), ("canvas:512x512", look)):
        QTimer.singleShot(100, act)
        assert main.run(source_spec=spec) == 0
    assert seen == [(9, 8, 7)] * 3
    assert kept_drawing(canvas_folder()) is not None


def test_a_canvas_of_another_size_has_the_kept_drawing_at_that_size():
    drawing = Drawing(512, 512)
    drawing.stroke([(0, 256), (512, 256)], Brush((0, 0, 0), 100))
    keep_drawing(drawing, canvas_folder())
    source = main.open_source("canvas:256x128")
    shown = main._drawing_for(Choice("canvas:256x128", "Canvas"), source)
    assert shown is not None
    assert shown.size == (256, 128)
    assert getattr(source, "drawing") is shown  # noqa: B009 - of a protocol that has none
    assert tuple(shown.look().pixels[64, 128]) == (0, 0, 0)
    shown.undo()
    np.testing.assert_array_equal(shown.look().pixels, drawing.look().pixels)  # nothing of it was lost
