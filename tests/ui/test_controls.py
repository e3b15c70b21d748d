"""Controls drawn from the settings' own descriptions."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.catalogue import Entry, entries, matters, sections, value_of, with_values
from app.settings import Settings
from pipeline.config import StreamConfig
from pipeline.setting import Need, Section, setting
from ui.controls import ChoiceControl, NumberControl, SwitchControl, WordsControl, control_for
from ui.offers import offers_menu, with_file

KNOWN = entries()
SLIDING = [
    entry
    for entry in KNOWN.values()
    if entry.kind in (int, float)
    and (entry.setting.high or 0) - (entry.setting.low or 0) <= 1000 * (entry.setting.step or 1)
]


def control(qtbot: QtBot, name: str, value: Any = None) -> tuple[Any, list[Any]]:
    made = control_for(KNOWN[name])
    qtbot.addWidget(made)
    made.show_value(KNOWN[name].default if value is None else value)
    edits: list[Any] = []
    made.edited.connect(lambda _, new: edits.append(new))
    return made, edits


def test_a_slider_has_the_range_and_step_of_its_setting(qtbot: QtBot):
    made, edits = control(qtbot, "strength")
    qtbot.keyClick(made.slider, Qt.Key.Key_Home)
    qtbot.keyClick(made.slider, Qt.Key.Key_Right)
    qtbot.keyClick(made.slider, Qt.Key.Key_End)
    assert edits == [0.05, 0.1, 1.0]
    assert KNOWN["strength"].setting.help in made.slider.accessibleDescription().lower()


@pytest.mark.parametrize("entry", SLIDING, ids=lambda entry: entry.name)
def test_every_value_of_a_slider_is_allowed(qtbot: QtBot, entry: Entry):
    made = NumberControl(entry)
    qtbot.addWidget(made)
    assert made.slider is not None
    values: list[Any] = []
    made.edited.connect(lambda _, value: values.append(value))
    for position in range(made.slider.maximum(), made.slider.minimum() - 1, -1):
        made.slider.setValue(position)
    for value in values:
        assert entry.setting.problem(entry.name, value, entry.kind) is None


def test_a_number_can_be_typed(qtbot: QtBot):
    made, edits = control(qtbot, "seed")
    assert made.slider is None
    made.box.selectAll()
    qtbot.keyClicks(made.box, "77")
    qtbot.keyClick(made.box, Qt.Key.Key_Return)
    assert edits == [77]


def test_a_side_is_a_size_that_the_engine_takes_or_left_open(qtbot: QtBot):
    made, edits = control(qtbot, "width")
    made.box.stepUp()
    assert edits == [64]
    made.show_value(64)
    made.box.stepUp()
    made.box.setValue(101)
    assert edits[1:] == [72, 104]
    made.show_value(64)
    made.box.stepDown()
    assert edits[-1] == 0
    for value in edits:
        Settings(width=value)


def test_following_the_settings_edits_nothing(qtbot: QtBot):
    for name, value in (("strength", 0.3), ("similarity_filter", True), ("solver", "ddim"), ("seed", 5)):
        made, edits = control(qtbot, name, value)
        assert not edits
        assert not made.reset.isVisibleTo(made)
        made.show_value(KNOWN[name].default, "Back to the default")  # chosen as it is
        assert made.reset.isVisibleTo(made)
        assert not edits


def test_the_kind_of_the_setting_chooses_the_control(qtbot: QtBot):
    expected = {
        "mirror": SwitchControl,
        "fit": ChoiceControl,
        "steps": NumberControl,
        "strength": NumberControl,
        "timesteps": WordsControl,
    }
    for name, kind in expected.items():
        made = control_for(KNOWN[name])
        qtbot.addWidget(made)
        assert type(made) is kind, name


def test_a_setting_that_nobody_foresaw_appears_by_itself(qtbot: QtBot):
    @dataclass(frozen=True)
    class Inner:
        sparse_margin: int = setting(
            4, "cells around a change", low=0, high=9, step=1, section=Section.ENGINE, need=Need("sparkle", (True,))
        )
        tint: str = setting("", "a colour in words")

    @dataclass(frozen=True)
    class Outer:
        sparkle: bool = setting(False, "glitter")
        inner: Inner = field(default_factory=Inner)

    known = entries(Outer)
    shown = {section: [entry.name for entry in mine] for section, mine in sections(known)}
    assert shown == {Section.ENGINE: ["sparse_margin"], Section.MORE: ["sparkle", "tint"]}
    assert not matters("sparse_margin", Outer(), known)  # type: ignore[arg-type]
    made = control_for(known["tint"])
    qtbot.addWidget(made)
    assert isinstance(made, WordsControl)
    changed = with_values(Outer(), known, {"sparse_margin": 7, "sparkle": True})  # type: ignore[arg-type]
    assert changed == Outer(sparkle=True, inner=Inner(sparse_margin=7))
    assert value_of(changed, known["sparse_margin"]) == 7


def test_every_setting_has_a_place_and_what_it_needs_is_a_setting():
    shown = [entry.name for _, mine in sections(KNOWN) for entry in mine]
    elsewhere = [name for name, entry in KNOWN.items() if entry.setting.section is Section.ELSEWHERE]
    assert sorted([*shown, *elsewhere]) == sorted(KNOWN)
    assert not [name for name, entry in KNOWN.items() if entry.setting.section is Section.MORE]
    for entry in KNOWN.values():
        need = entry.setting.need
        for value in (*need.values, *([] if need.values else [need.unless])) if need is not None else ():
            assert need is not None
            assert KNOWN[need.name].problem(value) is None


def test_what_has_no_effect_is_known():
    plain = Settings()
    assert not matters("similarity_threshold", plain, KNOWN)
    assert not matters("delta", plain, KNOWN)
    for name in ("strength", "steps", "spacing"):
        assert matters(name, plain, KNOWN)
        assert not matters(name, with_values(plain, KNOWN, {"timesteps": "559,359"}), KNOWN)
    filtering = replace(plain, stream=StreamConfig(similarity_filter=True, guidance="self-negative"))
    assert matters("similarity_threshold", filtering, KNOWN)
    assert matters("delta", filtering, KNOWN)


def test_an_explanation_has_help_range_and_default():
    words = KNOWN["strength"].explanation
    for part in ("How far the picture moves", "Between 0.05 and 1.", "Default: 0.8."):
        assert part in words
    assert "loads the model again" in KNOWN["device"].explanation


def turn_wheel(widget: QWidget) -> bool:
    """Whether the widget keeps the turn to itself; else Qt offers it to the page."""
    nowhere, none = QPoint(0, 0), Qt.MouseButton.NoButton
    at = QPointF(widget.rect().center())
    keys, phase = Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
    turn = QWheelEvent(at, widget.mapToGlobal(at), nowhere, QPoint(0, -120), none, keys, phase, False)
    QApplication.sendEvent(widget, turn)
    return turn.isAccepted()


@pytest.mark.parametrize("name", ["strength", "steps", "solver", "guidance_scale"])
def test_a_wheel_that_scrolls_the_page_changes_nothing_on_it(qtbot: QtBot, name: str):
    made, edits = control(qtbot, name, {"steps": 3, "solver": "ddim"}.get(name))
    made.show()
    assert not turn_wheel(made.part)
    assert edits == []
    made.part.setFocus()
    qtbot.waitUntil(made.part.hasFocus)
    assert turn_wheel(made.part)
    assert len(edits) == 1


def test_usual_values_are_offered_beside_what_is_typed(qtbot: QtBot):
    made, edits = control(qtbot, "background", "blur:20")
    menu = offers_menu(made.entry, made.words.text(), edits.append, made)
    offers = {action.text(): action for action in menu.actions() if action.text()}
    assert list(offers)[:2] == ["blur", "none"]
    assert "Choose a picture…" in offers
    for name in ("green", "Nothing"):
        offers[name].trigger()
    assert edits == ["green", ""]
    for value in edits:
        assert made.entry.problem(value) is None


def test_what_is_offered_for_a_list_is_added_and_taken_away(qtbot: QtBot):
    made, edits = control(qtbot, "keep_shape", "depth:0.5 @ a.safetensors")
    offers = {one.text(): one for one in offers_menu(made.entry, made.words.text(), edits.append, made).actions()}
    assert offers["depth"].isChecked()
    assert not offers["canny"].isChecked()
    for name in ("depth", "canny"):
        offers[name].trigger()
    assert edits == ["", "depth:0.5 @ a.safetensors; canny:0.8"]
    assert with_file(KNOWN["look_like"], "a.png:0.5", "b; c.png") == 'a.png:0.5; "b; c.png"'


def test_text_without_usual_values_has_no_button(qtbot: QtBot):
    assert control(qtbot, "timesteps")[0].more is None
    assert control(qtbot, "loras")[0].more is not None
