"""Opening the window, and the reasons not to."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.cameras import Camera
from app.drawing import Brush
from app.drawing_file import canvas_folder, kept_drawing
from app.prompt_history import PromptHistory, history_path, load_history
from app.qt_libraries import Library
from app.session import Session
from app.settings import default_path
from app.settings_file import load
from app.settings_owner import SettingsOwner
from app.sources import open_source
from tests.app.fakes import FakeEngine, loader_of
from ui import keeping, main, view
from ui.choice import Choice
from ui.state import WindowState, load_state, state_path
from ui.view import FIRST_PROMPT, first_choice, remembered
from ui.window import Window


def test_the_window_can_be_shown_without_torch():
    script = (
        "import sys, ui.main, ui.window;"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'PIL', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    missing = [Library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor")]
    monkeypatch.setattr(main, "missing_libraries", lambda: missing)
    assert main.run() == 2
    said = capsys.readouterr().err
    assert "the window needs libxcb-cursor.so.0" in said
    assert "apt install libxcb-cursor0" in said


def test_an_unknown_source_is_said_to_be(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(main, "missing_libraries", list)
    assert main.run(source_spec="nonsense") == 2
    assert "'nonsense' is no file or folder" in capsys.readouterr().err


@pytest.mark.usefixtures("qapp")
def test_the_window_opens_runs_and_keeps_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(main, "missing_libraries", list)
    monkeypatch.setattr(main, "Session", partial(Session, loader=loader_of(FakeEngine())))
    QTimer.singleShot(200, lambda: [window.close() for window in QApplication.topLevelWidgets()])
    assert main.run({"mirror": True, "steps": 1}, "testcard:width=64,height=64") == 0
    assert load(default_path()) == ({"mirror": True, "steps": 1, "prompt": FIRST_PROMPT}, [])
    assert load_history(history_path()).prompts == (FIRST_PROMPT,)


@pytest.mark.usefixtures("qapp")
def test_a_crash_loses_no_more_than_two_seconds(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nothing of what is looked at here was kept by closing the window."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(tmp_path / "config"))
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "data"))
    monkeypatch.setattr(main, "Session", partial(Session, loader=loader_of(FakeEngine())))
    monkeypatch.setattr(keeping.Keeper.__init__, "__defaults__", (1,))
    choice = Choice("testcard:width=64,height=64", "Card")
    window = main.open_window(choice, open_source(choice.spec, live=True), SettingsOwner())
    kept = default_path()
    window.editor.change(mirror=True)
    qtbot.waitUntil(lambda: kept.exists() and load(kept)[0] == {"mirror": True})
    assert load_state(state_path()).source == choice.spec
    kept.chmod(0o444)
    kept.parent.chmod(0o555)
    window.editor.change(steps=2)
    kept.parent.chmod(0o755)
    window.editor.change(steps=3)
    qtbot.waitUntil(lambda: load(kept)[0] == {"mirror": True, "steps": 3})
    window.switch.choose(Choice("canvas", "Canvas"))
    window.switch.drawing.stroke([(9, 9), (40, 40)], Brush())
    window.canvas.paper.painted.emit()
    qtbot.waitUntil(lambda: load_state(state_path()).source == "canvas" and _is_painted())
    window.close()


def _is_painted() -> bool:
    drawing = kept_drawing(canvas_folder())
    return drawing is not None and bool((drawing.look().pixels < 255).any())


def test_the_source_of_the_last_time_is_taken_up_where_it_is_still_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(view, "first_camera", lambda: None)
    sample = first_choice(None)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    last = remembered(Choice(str(clip), "clip"))
    assert first_choice(None, last) == Choice(str(clip), "clip.mp4")
    assert first_choice("testcard", last).spec == "testcard"
    clip.unlink()
    assert first_choice(None, last) == sample
    assert first_choice(None, "camera:1") == sample
    assert first_choice(None, "screen:1").spec == "screen:1"
    assert remembered(sample) == remembered(Choice("window:GIMP", "GIMP")) == ""
    monkeypatch.setattr(view, "first_camera", lambda: Camera(0, "Built in"))
    assert first_choice(None, "camera:1").spec == "camera:1"
    assert first_choice(None, "").spec == "camera:0"


_SIGNALLED = """
import signal, sys
from functools import partial
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from app.session import Session
from tests.app.fakes import FakeEngine, loader_of
from ui import keeping, main, view
main.missing_libraries = list
main.Session = partial(Session, loader=loader_of(FakeEngine()))
application = QApplication(["vitrail-tests", "-platform", "offscreen"])
QTimer.singleShot(200, lambda: signal.raise_signal(getattr(signal, sys.argv[1])))
before = signal.getsignal(getattr(signal, sys.argv[1]))
code = main.run({"mirror": True}, "testcard:width=64,height=64")
print(code, signal.getsignal(getattr(signal, sys.argv[1])) is before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent signals there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_closes_the_window_which_keeps_the_settings(name: str):
    """In a process of its own: one that runs tests is not to be sent signals."""
    script = [sys.executable, "-c", _SIGNALLED, name]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["0", "True"], done.stderr
    assert load(default_path()) == ({"mirror": True, "prompt": FIRST_PROMPT}, [])


@pytest.mark.usefixtures("qapp")
def test_what_goes_wrong_at_a_click_is_said_and_the_window_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    told: list[str] = []
    monkeypatch.setattr(main, "missing_libraries", list)
    monkeypatch.setattr(keeping.Keeper, "_to_write", lambda *_: [])
    monkeypatch.setattr(main, "load_history", lambda _: PromptHistory())
    monkeypatch.setattr(main, "load_state", lambda _: WindowState())
    monkeypatch.setattr(main, "Session", partial(Session, loader=loader_of(FakeEngine())))

    def break_and_close() -> None:
        (window,) = (one for one in QApplication.topLevelWidgets() if isinstance(one, Window) and one.isVisible())
        QTimer.singleShot(50, lambda: [told.append(window.toast.text), window.close()])
        raise KeyError("a slip")

    QTimer.singleShot(200, break_and_close)
    assert main.run({}, "testcard:width=64,height=64") == 0
    assert told == ["Something unforeseen happened (KeyError: 'a slip'); the log says more."]
    assert "break_and_close" in caplog.text  # with its traceback


@pytest.mark.usefixtures("qapp")
def test_after_a_failure_another_window_takes_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(main, "Session", partial(Session, loader=loader_of(FakeEngine(), FakeEngine())))
    choice = Choice("testcard:width=64,height=64", "Card")
    chosen = {"mirror": True, "model": "some/model", "dtype": "auto", "prompt": "ink"}
    first = main.open_window(choice, open_source(choice.spec, live=True), SettingsOwner(chosen))
    first.show()
    first.prompts.add("an earlier prompt")
    first._restart()
    (second,) = main._open
    assert second.isVisible()
    assert not first.isVisible()
    assert first.session.running == []
    assert second.session.owner.standing.chosen == {"mirror": True, "prompt": "ink"}  # and no model
    second.close()
    assert main._open == set()
    assert load_history(history_path()).prompts == ("ink", "an earlier prompt")
    assert load(default_path()) == ({"mirror": True, "prompt": "ink"}, [])
