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

    def split(self) -> None:
        """Have the screen be two monitors side by side, of the same size; the left one is the first."""
        from Xlib.protocol import rq

        screen = self.display.screen()
        half = screen.width_in_pixels // 2
        outputs = screen.root.xrandr_get_screen_resources().outputs[:1]  # or what they show is a third monitor
        for name, left in (("LEFT", 0), ("RIGHT", half)):
            _request_of_monitor(rq)(
                display=self.display.display,
                opcode=self.display.query_extension("RANDR").major_opcode,
                window=screen.root,
                name=self.display.intern_atom(name),
                primary=not left,
                automatic=0,
                outputs=[] if left else outputs,
                x=left,
                y=0,
                width=half,
                height=screen.height_in_pixels,
                width_mm=half // 4,
                height_mm=screen.height_in_pixels // 4,
            )
        self.display.sync()

    def wait_until(self, done: Callable[[], bool]) -> None:
        """The server paints in its own time."""
        end = time.monotonic() + SAFETY_SECONDS
        while not done():
            assert time.monotonic() < end
            time.sleep(0.005)


def _request_of_monitor(rq: Any) -> Any:
    """RRSetMonitor of RandR 1.5, which python-xlib does not know: how ``xrandr --setmonitor`` makes one."""

    class SetMonitor(rq.Request):
        _request = rq.Struct(
            rq.Card8("opcode"),
            rq.Opcode(43),
            rq.RequestLength(),
            rq.Window("window"),
            rq.Card32("name"),
            rq.Bool("primary"),
            rq.Bool("automatic"),
            rq.LengthOf("outputs", 2),
            rq.Int16("x"),
            rq.Int16("y"),
            rq.Card16("width"),
            rq.Card16("height"),
            rq.Card32("width_mm"),
            rq.Card32("height_mm"),
            rq.List("outputs", rq.Card32Obj),
        )

    return SetMonitor


def run_xvfb(monkeypatch: pytest.MonkeyPatch, width: int = WIDTH, height: int = HEIGHT) -> Iterator[Desktop]:
    """For a fixture: a display named in DISPLAY while the test runs."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    pytest.importorskip("Xlib")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24"],
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
