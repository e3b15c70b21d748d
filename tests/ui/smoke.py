"""A visit to the real program on a real window system: ``python -m tests.ui.smoke FOLDER`` with a display at hand.

Nothing here is Qt's offscreen platform: the keys and the mouse are those of the X server (by its extension XTEST), the
pictures are grabbed from its screen. What was seen is written into FOLDER: ``seen.json`` and some screenshots.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QWidget

from app.status import SessionState
from pipeline.backends import selection
from pipeline.backends.eager import EagerBackend
from tests.ui.real import QtWarnings, spin
from ui import main
from ui.window import Window

WORDS = "neon lights"
PATIENCE_SECONDS = 60.0


class Hands:
    """A mouse and a keyboard, as the server has them."""

    def __init__(self) -> None:
        from Xlib import XK, X
        from Xlib.display import Display
        from Xlib.ext import xtest

        self._display = Display()
        self._fake = xtest.fake_input
        self._keysym = XK.string_to_keysym
        self._x = X

    def move(self, at: QPoint) -> None:
        """Put the pointer there, in pixels of the screen."""
        self._fake(self._display, self._x.MotionNotify, x=at.x(), y=at.y())
        self._display.sync()

    def click(self, widget: QWidget) -> None:
        """Click into the middle of a widget."""
        self.move(widget.mapToGlobal(widget.rect().center()))
        for kind in (self._x.ButtonPress, self._x.ButtonRelease):
            self._fake(self._display, kind, 1)
        self._display.sync()

    def press(self, *names: str) -> None:
        """Press keys by their names, all of them at once, and let go: ``press("Control_L", "a")``."""
        codes = [self._display.keysym_to_keycode(self._keysym(name)) for name in names]
        for code in codes:
            self._fake(self._display, self._x.KeyPress, code)
        for code in reversed(codes):
            self._fake(self._display, self._x.KeyRelease, code)
        self._display.sync()

    def type(self, words: str) -> None:
        """Type lower case words."""
        for letter in words:
            self.press("space" if letter == " " else letter)


def wait_for(what: Callable[[], bool], why: str) -> None:
    """Let the window live until ``what()``; an error that says ``why`` after a while."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(why)
        spin(0.05)


class Visit:
    """What is done, in order, and what was seen: ``seen``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hands = Hands()
        self.seen: dict[str, object] = {}

    def run(self) -> None:
        """Do it all on the window that is open; close it at the end, whatever happened."""
        window = next(one for one in QApplication.topLevelWidgets() if isinstance(one, Window))
        try:
            self._visit(window)
        except Exception as error:  # noqa: BLE001 - told, instead of a window that stays open for ever
            self.seen["error"] = f"{type(error).__name__}: {error}"
        window.close()

    def _visit(self, window: Window) -> None:
        application = QGuiApplication.instance()
        assert isinstance(application, QGuiApplication)
        self.seen["platform"] = application.platformName()
        self.seen["icon"] = not window.windowIcon().isNull()
        self.seen["desktop_file"] = application.desktopFileName()
        wait_for(lambda: window.viewer.frame is not None, "no picture came")
        wait_for(lambda: window.session.state is SessionState.RUNNING, "it does not run")
        self._type(window)
        self._click_a_style(window)
        self._resize(window)
        self._fill_the_screen(window)
        self._use_the_second_screen(window)

    def _type(self, window: Window) -> None:
        prompt = window.prompt_bar.prompt
        self._hands.click(prompt)
        wait_for(prompt.hasFocus, "a click gave the prompt no focus")
        self._hands.press("Control_L", "a")
        self._hands.type(WORDS)
        wait_for(lambda: window.session.settings.stream.prompt == WORDS, f"typed, but it says {prompt.text()!r}")
        self.seen["typed"] = prompt.text()

    def _click_a_style(self, window: Window) -> None:
        # What is typed names a style, which the row has brought into view; another one beside it.
        seen = [one for one in window.prompt_bar.chips.buttons if one.visibleRegion().boundingRect() == one.rect()]
        chip = next(one for one in seen if not one.isChecked())
        self._hands.click(chip)
        wait_for(lambda: window.session.settings.stream.prompt != WORDS, "a click on a style changed nothing")
        self.seen["style"] = [chip.text(), window.session.settings.stream.prompt]

    def _resize(self, window: Window) -> None:
        window.move(0, 0)
        for width, height in ((1240, 780), (1120, 740)):
            window.resize(width, height)
            wait_for(lambda size=(width, height): (window.width(), window.height()) == size, "it was not resized")
            spin(0.1)
        shown = self._grab("window", window.viewer)
        self.seen["colours"] = len(np.unique(shown.reshape(-1, 3), axis=0))

    def _fill_the_screen(self, window: Window) -> None:
        self._hands.press("F11")
        wait_for(lambda: bool(window.windowState() & Qt.WindowState.WindowFullScreen), "F11 did nothing")
        self.seen["bars"] = window.toolbar.isVisible() or window.prompt_bar.isVisible()
        self._hands.move(window.viewer.mapToGlobal(QPoint(50, 50)))
        wait_for(lambda: window.viewer.cursor().shape() is Qt.CursorShape.BlankCursor, "the pointer stays")
        self._grab("full", window.viewer)
        self._hands.press("Escape")
        wait_for(window.toolbar.isVisible, "Escape did not bring the window back")

    def _use_the_second_screen(self, window: Window) -> None:
        screens = QGuiApplication.screens()
        self.seen["screens"] = [screen.geometry().getRect() for screen in screens]
        if len(screens) < 2:
            return
        self._hands.press("F2")
        wait_for(lambda: window.dialogs.feed is not None, "F2 opened no clean feed")
        feed = window.dialogs.feed
        assert feed is not None
        feed.setGeometry(screens[1].geometry().adjusted(20, 20, -20, -200))
        wait_for(lambda: feed.viewer.frame is not None and feed.screen() is screens[1], "it is on the wrong screen")
        spin(0.3)
        self.seen["feed"] = len(np.unique(self._grab("feed", feed).reshape(-1, 3), axis=0))
        feed.close()

    def _grab(self, name: str, widget: QWidget) -> np.ndarray:
        """What the server shows where the widget is, (height, width, 3); the whole screen goes into a file."""
        screen = widget.screen()
        whole = screen.grabWindow(0).toImage().convertToFormat(QImage.Format.Format_RGB888)
        whole.save(str(self._folder / f"{name}.png"))
        bytes_ = np.frombuffer(whole.constBits(), np.uint8).reshape(whole.height(), whole.bytesPerLine())
        pixels = bytes_[:, : 3 * whole.width()].reshape(whole.height(), whole.width(), 3)
        corner = widget.mapToGlobal(QPoint(0, 0)) - screen.geometry().topLeft()
        return pixels[corner.y() : corner.y() + widget.height(), corner.x() : corner.x() + widget.width()].copy()


def visit(folder: Path) -> None:
    """Open the program, and write what was seen."""
    application = QApplication(["vitrail"])  # or there were no timers yet
    made = Visit(folder)
    selection._best = lambda model, _: EagerBackend(model)  # to build engines takes longer than the visit
    with QtWarnings() as warnings:
        QTimer.singleShot(200, made.run)
        code = main.run(source_spec="testcard:width=96,height=64,fps=20")
    del application
    made.seen["code"] = code
    made.seen["warnings"] = warnings.found
    for thread in (one for one in threading.enumerate() if one.name.startswith("vitrail")):
        thread.join(PATIENCE_SECONDS)  # a call of the model that was under way may take its time on a busy machine
    made.seen["threads"] = [one.name for one in threading.enumerate() if one.name.startswith("vitrail")]
    (folder / "seen.json").write_text(json.dumps(made.seen), encoding="utf-8")


if __name__ == "__main__":
    visit(Path(sys.argv[1]))
