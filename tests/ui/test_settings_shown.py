"""What the window shows is what runs, whoever changed it: the user, a model, or a shortage of memory."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.engine import Loaded
from app.fetching import Progress
from app.settings import Settings
from app.snapshot import settings_of_snapshot
from app.standing import Limits, model_of
from pipeline import ModelError
from pipeline.config import StreamConfig
from tests.app.fakes import FACTS, FakeEngine
from tests.ui.scripted import open_scripted, run_card
from ui.controls import ChoiceControl, NumberControl, WordsControl
from ui.panel import WIDTH
from ui.window import Window

TEN_STEPS = {"steps": 10, "solver": "dpmpp-2m", "guidance": "full", "guidance_scale": 7.5}


def load(settings: Settings, _: Progress) -> Loaded:
    """Two models: the embedded one recommends nothing, the others ten steps; "missing" is none."""
    if settings.model == "missing":
        raise ModelError("there is no such model")

    def refuse(config: StreamConfig) -> None:
        if "bad" in config.loras:
            raise ModelError("bad.safetensors is cut off; get the file again")

    engine = FakeEngine(settings.stream)
    engine.on_prepare = refuse
    defaults = {} if settings.model == "embedded" else TEN_STEPS
    return Loaded(engine, replace(FACTS, name=settings.model, defaults=defaults))


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[Window]:
    one = open_scripted(qtbot, tmp_path, load)
    run_card(qtbot, one)
    yield one
    one.close()


def shown(window: Window) -> tuple[float, str]:
    steps, solver = window.panel.controls["steps"], window.panel.controls["solver"]
    assert isinstance(steps, NumberControl)
    assert isinstance(solver, ChoiceControl)
    return steps.box.value(), solver.choice.currentText()


def test_what_a_model_recommends_is_shown(qtbot: QtBot, window: Window):
    window.editor.change(model="other")
    qtbot.waitUntil(lambda: shown(window) == (10, "dpmpp-2m"))
    assert window.session.settings.stream.steps == 10
    steps = window.panel.controls["steps"]
    assert not steps.reset.isVisibleTo(steps)  # nobody chose it
    window.editor.change(steps=1)  # the default is a choice here
    assert steps.reset.toolTip() == "Back to 10, as other recommends"
    steps.reset.click()
    assert shown(window) == (10, "dpmpp-2m")


def test_a_choice_of_what_the_model_had_before_is_sent(qtbot: QtBot, window: Window):
    """The panel once went on to show "lcm", so that choosing it sent nothing."""
    window.editor.change(model="other")
    qtbot.waitUntil(lambda: shown(window)[1] == "dpmpp-2m")
    solver = window.panel.controls["solver"]
    assert isinstance(solver, ChoiceControl)
    solver.choice.setCurrentText("lcm")
    assert window.session.settings.stream.solver == "lcm"


def test_undo_across_a_model_takes_back_the_users_step_alone(qtbot: QtBot, window: Window):
    window.editor.change(model="other")
    window.editor.change(strength=0.4)
    qtbot.waitUntil(lambda: shown(window) == (10, "dpmpp-2m"))
    window.commands["undo"].trigger()
    assert window.session.settings.stream.strength == 0.8
    assert shown(window) == (10, "dpmpp-2m")


def test_a_shortage_of_memory_is_shown_beside_the_choice_and_can_be_tried_again(window: Window):
    window.editor.change(width=512, height=512)
    owner = window.session.owner
    owner.limit(Limits("sliced", None, 384 * 384, model_of(owner.in_force)))
    width, memory = window.panel.controls["width"], window.panel.controls["memory"]
    assert isinstance(width, NumberControl)
    assert isinstance(memory, ChoiceControl)
    assert (width.box.value(), memory.choice.currentText()) == (512, "full")
    assert width.note.text().startswith("384 while memory is short.")
    assert memory.note.text().startswith("sliced while memory is short.")
    assert window.session.settings.width == 384
    window._refresh()
    words = "While memory is short: memory full → sliced, width 512 → 384, height 512 → 384."
    assert window.strip.hint.toolTip() == words
    width.note.linkActivated.emit("try")
    assert not width.note.isVisibleTo(width)
    assert window.session.settings.width == 512


def test_a_lora_that_cannot_be_had_is_said_beside_its_control(qtbot: QtBot, window: Window):
    window.editor.change(loras="bad.safetensors")
    loras = window.panel.controls["loras"]
    qtbot.waitUntil(lambda: loras.note.isVisibleTo(loras))
    assert loras.note.text() == "Not in force: bad.safetensors is cut off; get the file again."
    window.editor.change(loras="")
    assert not loras.note.isVisibleTo(loras)


def test_what_is_being_typed_is_not_taken_away_by_another_change(qtbot: QtBot, window: Window):
    window.panel.fold("Add-ons", True)
    loras = window.panel.controls["loras"]
    assert isinstance(loras, WordsControl)
    window.activateWindow()
    loras.words.setFocus()
    qtbot.waitUntil(loras.words.hasFocus)
    qtbot.keyClicks(loras.words, "half")
    window.editor.change(strength=0.3)
    assert loras.words.text() == "half"
    qtbot.keyClicks(loras.words, ".safetensors")
    qtbot.keyClick(loras.words, Qt.Key.Key_Return)
    assert window.editor.value("loras") == "half.safetensors"


def test_a_model_that_cannot_be_had_is_not_shown_as_the_one_that_runs(qtbot: QtBot, window: Window):
    window.editor.change(model="other")
    qtbot.waitUntil(lambda: window.session.model is not None and window.session.model.name == "other")
    window.editor.change(model="missing")
    qtbot.waitUntil(lambda: window.editor.value("model") == "other")
    assert window.session.settings.stream.steps == 10


def test_every_section_fits_into_the_panel(window: Window):
    for title in window.panel.sections:
        window.panel.fold(title, True)
    for control in window.panel.controls.values():
        assert control.minimumSizeHint().width() <= WIDTH - 50, control.entry.label  # margins and the scroll bar


def test_a_device_with_a_number_is_shown_as_it_is(window: Window):
    device = window.panel.controls["device"]
    assert isinstance(device, ChoiceControl)
    device.show_value("cuda:1")
    assert device.choice.currentText() == "cuda:1"


def test_a_snapshot_holds_the_settings_of_its_picture(qtbot: QtBot, window: Window, tmp_path: Path):
    """Not those of now: while the source is paused, the picture stays what it was made with."""
    qtbot.waitUntil(lambda: window.viewer.frame is not None and window.viewer.frame.settings is not None)
    window.commands["pause"].trigger()
    window.editor.change(prompt="something else")
    frame = window.viewer.frame
    assert frame is not None
    assert frame.settings is not None
    assert frame.settings.stream.prompt == "ink"
    window.sinks.snapshot(tmp_path)
    qtbot.waitUntil(lambda: not window.sinks._saving)
    (path,) = tmp_path.glob("*.png")
    assert settings_of_snapshot(path)[0].stream.prompt == "ink"
