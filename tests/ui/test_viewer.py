"""The live picture: layout, wiping, and what its paint costs in work."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from dataclasses import replace

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage, QRegion
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

import ui.viewer as module
from app.frame import Frame
from ui.bridge import Bridge
from ui.clean_feed import CleanFeed, can_be_transparent
from ui.layout import Layout, Mode, Rect, Zoom
from ui.pixels import Presenter, input_pixels
from ui.viewer import Viewer

RED, BLUE, GREEN = (200, 30, 40), (20, 60, 220), (40, 180, 60)


def styled(width: int = 100, height: int = 50, colour: tuple[int, int, int] = RED) -> Frame:
    """A red picture made from a blue one."""
    pixels = np.full((height, width, 3), colour, np.uint8)
    tensor = torch.tensor(BLUE).div(255).view(3, 1, 1).expand(3, height, width).contiguous()
    source = Frame(0, 0.0, np.zeros((height, width, 3), np.uint8), tensor)
    return Frame(0, 0.0, pixels, original=source)


@pytest.fixture
def viewer(qtbot: QtBot) -> Viewer:
    made = Viewer()
    qtbot.addWidget(made)
    made.resize(400, 400)
    made.show()
    return made


def show(viewer: Viewer, frame: Frame) -> None:
    viewer.presenter.offer(frame)
    viewer.refresh()


def colour(viewer: Viewer, x: int, y: int) -> tuple[int, int, int]:
    found: QColor = viewer.grab().toImage().pixelColor(x, y)
    return found.red(), found.green(), found.blue()


def test_the_source_is_shown_until_the_first_picture_which_fades_in(
    qtbot: QtBot, viewer: Viewer, monkeypatch: pytest.MonkeyPatch
):
    raw = Frame(0, 0.0, np.full((50, 100, 3), BLUE, np.uint8))
    show(viewer, raw)
    assert colour(viewer, 200, 200) == BLUE
    assert viewer.frame is None, "no picture that could be saved"
    monkeypatch.setattr(module, "FADE_MS", 3_600_000)
    show(viewer, styled())
    assert viewer.frame is not None
    assert colour(viewer, 200, 200) == pytest.approx(BLUE, abs=2)
    show(viewer, styled(colour=GREEN))  # goes on under the fade
    monkeypatch.setattr(module, "FADE_MS", 1)
    qtbot.waitUntil(lambda: not viewer._fading.isActive())
    assert colour(viewer, 200, 200) == GREEN


def test_the_picture_fills_the_view_in_its_own_shape(viewer: Viewer):
    show(viewer, styled())
    assert colour(viewer, 200, 200) == RED
    assert colour(viewer, 2, 200) == RED
    assert colour(viewer, 200, 90) != RED


def test_a_picture_that_is_not_contiguous_in_memory_is_shown(viewer: Viewer):
    pixels = styled().pixels[:, ::-1]
    show(viewer, Frame(0, 0.0, pixels))
    assert colour(viewer, 200, 200) == RED


def test_the_input_is_what_the_model_saw(viewer: Viewer):
    viewer.mode = Mode.INPUT
    show(viewer, styled())
    assert colour(viewer, 200, 200) == BLUE


def test_the_hint_is_what_the_picture_was_made_with(viewer: Viewer):
    viewer.mode = Mode.HINT
    hint = torch.tensor(GREEN).div(255).view(3, 1, 1).expand(3, 50, 100)
    show(viewer, replace(styled(), hint=hint))
    assert colour(viewer, 200, 200) == GREEN
    assert colour(viewer, 200, 90) != GREEN  # in its own shape
    viewer.mode = Mode.OUTPUT
    assert colour(viewer, 200, 200) == RED


def test_without_a_hint_a_sentence_says_how_to_have_one(viewer: Viewer):
    viewer.mode = Mode.HINT
    show(viewer, styled())
    seen = viewer.grab().toImage()
    colours = {seen.pixel(x, 200 + row) for x in range(40, 360) for row in range(-20, 20)}
    assert len(colours) > 2  # the ground, and letters
    assert viewer.picture_area().isEmpty()


def test_a_hint_is_brought_to_the_host_only_where_it_is_looked_at():
    class Watched(torch.Tensor):
        """Counts what is asked of it."""

        asked = 0

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            Watched.asked += 1
            return super().__torch_function__(func, types, args, kwargs)

    hint = torch.zeros(3, 50, 100).as_subclass(Watched)
    presenter, frame = Presenter(), replace(styled(), hint=hint)
    for mode in Mode:
        Watched.asked = 0
        presenter.want(Layout((400, 400), mode))
        presenter.offer(frame)
        assert (Watched.asked > 0) == (mode is Mode.HINT)


def test_another_mode_shows_at_once_without_a_new_picture(viewer: Viewer):
    show(viewer, styled())
    viewer.mode = Mode.INPUT
    assert colour(viewer, 200, 200) == BLUE
    viewer.mode = Mode.SIDE
    assert (colour(viewer, 200, 100), colour(viewer, 200, 300)) == (BLUE, RED)


def test_the_divider_follows_mouse_and_keys(qtbot: QtBot, viewer: Viewer):
    viewer.mode = Mode.SPLIT
    show(viewer, styled())
    assert (colour(viewer, 50, 200), colour(viewer, 350, 200)) == (BLUE, RED)
    qtbot.mousePress(viewer, Qt.MouseButton.LeftButton, pos=QPoint(200, 150))
    qtbot.mouseMove(viewer, QPoint(20, 150))
    qtbot.mouseRelease(viewer, Qt.MouseButton.LeftButton, pos=QPoint(20, 150))
    assert viewer.split == pytest.approx(0.05)
    assert colour(viewer, 50, 200) == RED
    qtbot.keyClick(viewer, Qt.Key.Key_Right)
    assert viewer.split == pytest.approx(0.07)


def test_a_double_click_asks_for_the_full_screen(qtbot: QtBot, viewer: Viewer):
    with qtbot.waitSignal(viewer.full_screen_asked):
        qtbot.mouseDClick(viewer, Qt.MouseButton.LeftButton, pos=QPoint(200, 200))


def test_a_resize_does_not_wait_for_the_next_picture(viewer: Viewer):
    show(viewer, styled())
    viewer.resize(500, 300)
    assert viewer.picture_area().width() == 500
    assert colour(viewer, 490, 150) == RED


def test_actual_size_is_a_pixel_for_a_pixel(viewer: Viewer):
    viewer.zoom = Zoom.ACTUAL
    show(viewer, styled())
    area = viewer.picture_area()
    assert (area.width(), area.height()) == (100, 50)


def test_two_views_share_a_stream(qtbot: QtBot, viewer: Viewer):
    second = Viewer(clean=True)
    qtbot.addWidget(second)
    second.resize(200, 100)
    second.show()
    bridge = Bridge()
    for view in (viewer, second):
        bridge.attach(view.presenter)
    bridge.put(styled())
    for view in (viewer, second):
        view.refresh()
        assert view.frame is not None
    bridge.detach(second.presenter)
    bridge.put(styled(colour=BLUE))
    second.refresh()
    assert colour(second, 100, 50) == RED


def test_memory_is_used_again():
    presenter = Presenter()
    presenter.want(Layout((64, 64)))
    presenter.offer(styled())
    first = presenter.take()
    assert first is not None
    assert first.output is not None
    presenter.release(first)
    presenter.offer(styled())
    again = presenter.take()
    assert again is not None
    assert again.output is not None
    assert again.output.pixels is first.output.pixels


def test_nothing_is_prepared_for_a_view_without_a_size():
    presenter = Presenter()
    presenter.offer(styled())
    assert presenter.take() is None


def test_without_an_input_the_picture_itself_is_the_input():
    frame = Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8))
    assert input_pixels(frame) is frame.pixels
    raw = Frame(0, 0.0, np.ones((2, 2, 3), np.uint8))
    assert input_pixels(Frame(0, 0.0, frame.pixels, original=raw)) is raw.pixels


@pytest.mark.parametrize(
    ("box", "output", "shown"),
    [
        ((208, 50), Rect(108, 0, 100, 50), Rect(0, 0, 100, 50)),
        ((100, 108), Rect(0, 58, 100, 50), Rect(0, 0, 100, 50)),
    ],
)
def test_side_by_side_uses_the_longer_way(box: tuple[int, int], output: Rect, shown: Rect):
    assert Layout(box, Mode.SIDE).places((100, 50)) == (output, shown)


def test_what_is_transparent_is_green_or_shows_what_is_behind() -> None:
    alpha = np.zeros((50, 100), np.uint8)
    alpha[:, 50:] = 255
    frame = replace(styled(), alpha=alpha)
    for transparent in (False, True):
        presenter = Presenter(transparent=transparent)
        presenter.want(Layout((100, 50)))
        prepared = presenter.prepare(frame)
        assert prepared is not None
        assert prepared.output is not None
        image = prepared.output.image()
        assert image.pixelColor(80, 20) == QColor(*RED)
        assert image.pixelColor(20, 20).alpha() == (0 if transparent else 255)
        assert transparent or image.pixelColor(20, 20) == QColor(0, 255, 0)
        whole = presenter.prepare(styled())
        assert whole is not None
        assert whole.output is not None
        assert not whole.output.transparent


@pytest.mark.parametrize(
    ("platform", "composed", "expected"),
    [
        ("xcb", True, True),
        ("xcb", False, False),
        ("wayland", False, True),
        ("cocoa", False, True),
        ("windows", False, True),
        ("offscreen", True, False),
    ],
)
def test_a_window_is_transparent_only_where_it_would_not_be_black(
    platform: str, composed: bool, expected: bool
) -> None:
    assert can_be_transparent(platform, composed) is expected


def test_the_clean_feed_paints_nothing_where_nothing_is(qtbot: QtBot) -> None:
    feed = CleanFeed(transparent=True)
    qtbot.addWidget(feed)
    feed.resize(200, 100)
    feed.show()
    alpha = np.zeros((50, 100), np.uint8)
    alpha[:, 50:] = 255
    feed.viewer.presenter.offer(replace(styled(), alpha=alpha))
    feed.viewer.refresh()
    shown = QImage(feed.size(), QImage.Format.Format_ARGB32_Premultiplied)
    shown.fill(QColor(0, 0, 0, 0))
    feed.viewer.render(shown, QPoint(), QRegion(), QWidget.RenderFlag.DrawChildren)
    assert shown.pixelColor(40, 50).alpha() == 0
    assert shown.pixelColor(160, 50) == QColor(*RED)
    assert feed.transparent
