"""The row of styles: every click chooses, whatever is cut off; keys reach all of it."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.scripted import open_scripted
from ui.keys import keys_of
from ui.theme import DARK, LIGHT
from ui.window import Window
from ui.words import has


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[Window]:
    made = open_scripted(qtbot, tmp_path)
    made.resize(1000, 700)
    made.activateWindow()
    qtbot.waitUntil(lambda: made.prompt_bar.chips.row.horizontalScrollBar().maximum() > 0)
    yield made
    made.close()


def in_view(window: Window, button: QPushButton) -> bool:
    row = window.prompt_bar.chips.row.viewport()
    left = button.mapTo(row, QPoint(0, 0)).x()
    return left >= 0 and left + button.width() <= row.width()


def chosen(window: Window) -> list[str]:
    prompt = window.editor.text("prompt")
    return [style.name for style, _ in window.prompt_bar.chips._buttons if has(prompt, style)]


def test_every_chip_is_chosen_by_one_click_where_it_can_be_seen(qtbot: QtBot, window: Window):
    chips = window.prompt_bar.chips
    viewport = chips.row.viewport()
    bar = chips.row.horizontalScrollBar()
    cut_off = 0
    for place in range(0, bar.maximum() + 1, 40):
        bar.setValue(place)
        for button in chips.buttons:
            corner = button.mapTo(viewport, QPoint(0, 0))
            seen = range(max(0, corner.x() + 4), min(viewport.width(), corner.x() + button.width() - 4))
            if not seen or button.text() in chosen(window):
                continue
            cut_off += not in_view(window, button)
            at = seen[len(seen) // 2]
            target = viewport.mapTo(window, QPoint(at, corner.y() + button.height() // 2))
            under = window.childAt(target)
            assert under is button
            qtbot.mouseClick(under, Qt.MouseButton.LeftButton, pos=button.mapFrom(window, target))
            assert bar.value() == place, "nothing moves under the pointer"
            assert button.text() in chosen(window)
    assert cut_off


def test_arrows_move_the_row_and_are_there_only_where_there_is_more(qtbot: QtBot, window: Window):
    chips = window.prompt_bar.chips
    assert chips.on.isVisible()
    assert not chips.back.isEnabled()
    for _ in range(10):
        chips.on.click()
    assert in_view(window, chips.buttons[-1])
    assert not chips.on.isEnabled()
    assert chips.back.isEnabled()
    chips.show_styles(tuple(style for style, _ in chips._buttons)[:2])
    qtbot.waitUntil(lambda: not chips.on.isVisible())


def test_the_tab_key_comes_from_the_prompt_to_one_chip_and_leaves(window: Window):
    chips = window.prompt_bar.chips
    order = [one for one in _chain(window.prompt_bar.prompt) if one.isVisibleTo(window)]
    reached = [one for one in order if one in chips.buttons]
    assert len(reached) == 1
    assert order.index(reached[0]) <= 3  # after earlier prompts and more words
    controls = [control.part for control in window.panel.controls.values()]
    assert all(order.index(reached[0]) < order.index(one) for one in order if one in controls)


def test_the_arrow_keys_go_along_the_row_and_space_chooses(qtbot: QtBot, window: Window):
    chips = window.prompt_bar.chips
    chips.buttons[0].setFocus(Qt.FocusReason.TabFocusReason)
    for _ in range(len(chips.buttons) + 2):
        qtbot.keyClick(QApplication.focusWidget() or window, Qt.Key.Key_Right)
    last = chips.buttons[-1]
    assert QApplication.focusWidget() is last
    assert in_view(window, last)
    assert chosen(window) == []
    qtbot.keyClick(last, Qt.Key.Key_Space)
    assert chosen(window) == [last.text()]


def test_a_style_is_chosen_by_its_number_but_not_while_one_types(qtbot: QtBot, window: Window):
    chips = window.prompt_bar.chips
    window.viewer.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    window.viewer.setFocus()
    qtbot.keyClick(window.viewer, Qt.Key.Key_2)
    assert chosen(window) == [chips.buttons[1].text()]
    window.prompt_bar.prompt.setFocus()
    qtbot.keyClick(window.prompt_bar.prompt, Qt.Key.Key_3)
    assert window.prompt_bar.prompt.text().endswith("3")
    assert len(keys_of("style")) == 9


def test_what_the_prompt_names_is_brought_into_view(window: Window):
    chips = window.prompt_bar.chips
    style, last = chips._buttons[-1]
    assert not in_view(window, last)
    window.editor.change(prompt=style.prompt)
    assert last.isChecked()
    assert in_view(window, last)


def _chain(first: QWidget) -> list[QWidget]:
    found, widget = [], first
    while (widget := widget.nextInFocusChain()) is not first:
        assert widget is not None
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            found.append(widget)
    return found


def test_words_without_effect_are_named_where_they_are_typed(window: Window):
    bar = window.prompt_bar
    bar.prompt.setText("a pencil sketch of a <robot>")
    assert bar.limit.isVisible()
    assert "“robot” has no effect" in bar.limit.text()
    assert DARK.accent in bar.limit.text()
    window.commands["theme"].trigger()
    assert LIGHT.accent in bar.limit.text()
    window.commands["theme"].trigger()
    bar.limit.linkActivated.emit("models")
    assert window.dialogs.models is not None
    bar.prompt.setText("a pencil sketch")
    assert not bar.limit.isVisible()
    bar.show_styles(())
    bar.prompt.setText("a cat astronaut in space")
    assert not bar.limit.isVisible()
