"""A desktop of its own for a test: Xvfb, and plain windows on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.app.fakes import SAFETY_SECONDS

WIDTH, HEIGHT = 320, 200


class Desktop:
    """Windows of one colour, without a window manager. ``display`` is a connection of python-xlib."""

    def __init__(self) -> None:
        from Xlib.display import Display

        self.display: Any = Display()

    def window(self, title: str, left: int, top: int, width: int, height: int, colour: int) -> Any:
        """Show a window of the colour 0xRRGGBB."""
        screen = self.display.screen()
        window = screen.root.create_window(
            left, top, width, height, 0, screen.root_depth, background_pixel=colour, override_redirect=True
        )
        window.change_property(
            self.display.intern_atom("_NET_WM_NAME"), self.display.intern_atom("UTF8_STRING"), 8, title.encode()
        )
        window.map()
        self.display.sync()
        return window

    def wait_until(self, done: Callable[[], bool]) -> None:
        """The server paints in its own time."""
        end = time.monotonic() + SAFETY_SECONDS
        while not done():
            assert time.monotonic() < end
            time.sleep(0.005)


def run_xvfb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """For a fixture: a display named in DISPLAY while the test runs."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    pytest.importorskip("Xlib")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as answer:
        monkeypatch.setenv("DISPLAY", f":{answer.readline().strip()}")
    for name in ("WAYLAND_DISPLAY", "XDG_SESSION_TYPE", "XAUTHORITY"):
        monkeypatch.delenv(name, raising=False)
    desktop = Desktop()
    yield desktop
    desktop.display.close()
    server.terminate()
    server.wait()
