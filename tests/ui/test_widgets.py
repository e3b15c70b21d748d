"""The picture and the sliders."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import numpy as np
import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from pipeline.config import StreamConfig
from pipeline.setting import Setting, described
from ui.widgets import Picture, SettingSlider

KNOWN = {name: setting for name, _, setting in described(StreamConfig)}


def test_the_picture_fills_the_widget_in_its_own_shape(qtbot: QtBot):
    picture = Picture()
    qtbot.addWidget(picture)
    picture.resize(400, 400)
    pixels = np.full((50, 100, 3), (200, 30, 40), np.uint8)
    picture.show_pixels(pixels[:, ::-1])  # not contiguous in memory, as a mirrored picture is not
    pixels[:] = 0  # the array is the sender's, to do with as it likes
    shown = picture.grab().toImage()
    middle, above, side = shown.pixelColor(200, 200), shown.pixelColor(200, 60), shown.pixelColor(2, 200)
    assert (middle.red(), middle.green(), middle.blue()) == (200, 30, 40)
    assert above.red() < 30
    assert side.red() == 200


def test_the_banner_is_drawn_over_the_picture(qtbot: QtBot):
    picture = Picture()
    qtbot.addWidget(picture)
    picture.resize(400, 300)
    plain = picture.grab().toImage()
    picture.show_banner("The camera is gone.")
    assert picture.grab().toImage() != plain
    picture.show_banner("")
    assert picture.grab().toImage() == plain


def test_a_slider_has_the_range_and_step_of_its_setting(qtbot: QtBot):
    slider = SettingSlider("Strength", KNOWN["strength"], 0.8)
    qtbot.addWidget(slider)
    assert slider.value == 0.8
    values: list[float] = []
    slider.changed.connect(values.append)
    qtbot.keyClick(slider.slider, Qt.Key.Key_Home)
    qtbot.keyClick(slider.slider, Qt.Key.Key_Right)
    qtbot.keyClick(slider.slider, Qt.Key.Key_End)
    assert values == [0.05, 0.1, 1.0]
    assert slider.slider.toolTip() == KNOWN["strength"].help


def test_every_value_of_a_slider_is_allowed(qtbot: QtBot):
    slider = SettingSlider("Threshold", KNOWN["similarity_threshold"], 0.98)
    qtbot.addWidget(slider)
    for position in range(slider.slider.maximum() + 1):
        slider.slider.setValue(position)
        StreamConfig(similarity_threshold=slider.value)


@pytest.mark.usefixtures("qapp")
def test_a_setting_without_a_range_has_no_slider():
    with pytest.raises(ValueError, match="no range"):
        SettingSlider("Seed", Setting("help", low=0), 0)
