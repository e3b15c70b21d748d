"""Screens: a scripted display, and a real one where Xvfb is installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from mss.exception import ScreenShotError

from app.sources import SourceError, SourceStalled
from app.sources import screen as screen_module
from app.sources.screen import ScreenSource
from app.window_list import NoWindows, on_wayland, windows
from tests.app.desktop import Desktop
from tests.app.media import assert_close_ends_a_read

MONITORS = [
    {"left": 0, "top": 0, "width": 300, "height": 100},
    {"left": 0, "top": 0, "width": 200, "height": 100},
    {"left": 200, "top": 0, "width": 100, "height": 80},
]


class ScriptedDisplay:
    """Stands in for mss: every pixel of a picture is (left, top, 7) in BGR."""

    def __init__(self) -> None:
        self.monitors = MONITORS
        self.locked = False
        self.closed = False

    def grab(self, area: dict[str, int]) -> SimpleNamespace:
        if self.locked:
            raise ScreenShotError("the screen is locked")
        pixels = np.empty((area["height"], area["width"], 4), np.uint8)
        pixels[...] = (area["left"], area["top"], 7, 0)
        return SimpleNamespace(raw=bytearray(pixels.tobytes()), width=area["width"], height=area["height"])

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> ScriptedDisplay:
    scripted = ScriptedDisplay()
    monkeypatch.setattr(screen_module, "_grabber_of_display", lambda: scripted)
    return scripted


def test_a_region_counts_from_its_monitors_corner(display: ScriptedDisplay):
    source = ScreenSource(2, (10, 20, 30, 40), fps=200)
    source.open()
    frames = [source.read(), source.read()]
    source.close()
    assert [frame.index for frame in frames if frame] == [0, 1]
    assert frames[0] is not None
    assert frames[0].pixels.shape == (40, 30, 3)
    assert tuple(frames[0].pixels[0, 0]) == (7, 20, 210)
    assert display.closed
    assert source.read() is None


@pytest.mark.parametrize("region", [(0, 0, 201, 10), (-1, 0, 10, 10), (0, 0, 0, 10), (150, 50, 100, 10)])
def test_a_region_off_the_screen_is_refused(display: ScriptedDisplay, region: tuple[int, int, int, int]):
    with pytest.raises(SourceError, match="not within the screen, which is 200x100"):
        ScreenSource(1, region).open()
    assert display.closed


def test_a_screen_that_is_not_there_is_refused(display: ScriptedDisplay):
    with pytest.raises(SourceError, match="There is no screen 3; this machine has 2"):
        ScreenSource(3).open()
    assert display.closed


def test_a_locked_screen_stalls_and_comes_back(display: ScriptedDisplay):
    source = ScreenSource(1, fps=200)
    source.open()
    assert source.read() is not None
    display.locked = True
    with pytest.raises(SourceStalled, match="locked"):
        source.read()
    display.locked = False
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.index == 1


@pytest.mark.usefixtures("display")
def test_close_ends_the_wait_for_the_next_beat():
    source = ScreenSource(1, fps=0.001)
    assert_close_ends_a_read(source)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may lack a display")
@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        ({}, "run this in a desktop session"),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "log in to an X11"),
        ({"XDG_SESSION_TYPE": "wayland"}, "OBS Studio"),
    ],
)
def test_without_a_display_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], advice: str
):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=advice):
        ScreenSource().open()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names its display in DISPLAY")
def test_a_display_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(SourceError, match="check that DISPLAY"):
        ScreenSource().open()


@pytest.mark.usefixtures("xvfb")
def test_a_wayland_session_with_a_real_x_display_is_read(monkeypatch: pytest.MonkeyPatch):
    """As within Xvfb or a remote desktop: only Xwayland shows no desktop."""
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    source = ScreenSource()
    source.open()
    assert source.read() is not None
    source.close()


def test_a_region_of_a_real_display_is_read_to_the_pixel(xvfb: Desktop):
    xvfb.window("red", 40, 30, 100, 60, 0xC81020)
    source = ScreenSource(1, (20, 10, 160, 120), fps=200)
    source.open()
    xvfb.wait_until(lambda: (frame := source.read()) is not None and bool(frame.pixels.any()))
    frame = source.read()
    source.close()
    assert frame is not None
    expected = np.zeros((120, 160, 3), np.uint8)
    expected[20:80, 20:120] = (0xC8, 0x10, 0x20)
    np.testing.assert_array_equal(frame.pixels[:80], expected[:80])  # below, there is the mouse pointer


def test_xwayland_gives_itself_away(monkeypatch: pytest.MonkeyPatch, xvfb: Desktop):
    from Xlib.display import Display

    assert xvfb.display is not None
    monkeypatch.setenv("XDG_SESSION_TYPE", "wayland")
    assert not on_wayland()
    ask = Display.query_extension
    monkeypatch.setattr(Display, "query_extension", lambda one, name: name == "XWAYLAND" or ask(one, name))
    assert on_wayland()
    with pytest.raises(SourceError, match="OBS Studio"):
        ScreenSource().open()
    with pytest.raises(NoWindows, match="OBS Studio"):
        windows()
