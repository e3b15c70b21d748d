"""Windows: really shown on an Xvfb desktop, moved, closed, and found again."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from app import window_list
from app.sources import SourceError, SourceStalled, open_source
from app.sources import window as window_module
from app.sources.window import WindowSource
from app.window_list import NoWindows, Window, WindowList, windows
from tests.app.desktop import Desktop

RED, BLUE = 0xC81020, 0x1020C8


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "_LOOK_SECONDS", 0.0)


def colour_of(source: WindowSource) -> tuple[tuple[int, ...], int]:
    frame = source.read()
    assert frame is not None
    colours = np.unique(frame.pixels.reshape(-1, 3), axis=0)
    return frame.pixels.shape[:2], int(colours[0] @ [0x10000, 0x100, 1]) if len(colours) == 1 else -1


def test_windows_are_listed_with_title_and_place(xvfb: Desktop):
    red = xvfb.window("Zeichnung \u58a8 – GIMP", 10, 20, 60, 40, RED)
    xvfb.window("another", 100, 50, 30, 20, BLUE)
    xvfb.window("", 150, 50, 30, 20, BLUE)
    listing = WindowList()
    found = listing.look()
    assert found == [
        Window(found[0].number, "another", 100, 50, 30, 20),
        Window(red.id, "Zeichnung \u58a8 – GIMP", 10, 20, 60, 40),
    ]
    red.unmap()
    xvfb.display.sync()
    assert [window.title for window in listing.look()] == ["another"]
    listing.close()
    listing.close()


def test_a_window_is_followed_stalls_when_closed_and_comes_back(xvfb: Desktop):
    red = xvfb.window("my drawing", 10, 20, 60, 40, RED)
    xvfb.window("another", 100, 50, 30, 20, BLUE)
    source = open_source("window:DRAW")
    assert isinstance(source, WindowSource)
    source.open()
    xvfb.wait_until(lambda: colour_of(source) == ((40, 60), RED))
    assert source.name == "window my drawing"
    red.configure(x=80, y=10, width=50)
    xvfb.display.sync()
    xvfb.wait_until(lambda: colour_of(source) == ((40, 50), RED))
    red.configure(x=-20)  # partly off the screen
    xvfb.display.sync()
    xvfb.wait_until(lambda: colour_of(source) == ((40, 30), RED))
    red.configure(x=-200)
    xvfb.display.sync()
    with pytest.raises(SourceStalled, match="outside of the screen"):
        source.read()
    red.destroy()
    xvfb.display.sync()
    with pytest.raises(SourceStalled, match="my drawing is closed or minimised"):
        source.read()
    xvfb.window("a new drawing", 20, 20, 44, 44, BLUE)
    xvfb.wait_until(lambda: colour_of(source) == ((44, 44), BLUE))
    source.close()
    assert source.read() is None


def test_a_window_can_be_chosen_by_its_number(xvfb: Desktop):
    xvfb.window("twin", 10, 20, 60, 40, RED)
    second = xvfb.window("twin", 100, 50, 30, 20, BLUE)
    source = open_source(f"window:{second.id}")
    assert isinstance(source, WindowSource)
    source.open()
    xvfb.wait_until(lambda: colour_of(source) == ((20, 30), BLUE))
    source.close()


def test_a_window_that_is_not_there_is_refused_with_a_list(xvfb: Desktop):
    xvfb.window("another", 100, 50, 30, 20, BLUE)
    with pytest.raises(SourceError, match="There is no window 'drawing'; there is: 'another'") as refused:
        WindowSource("drawing").open()
    assert not isinstance(refused.value, SourceStalled)


def test_where_windows_cannot_be_listed_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(window_list.sys, "platform", "darwin")
    with pytest.raises(NoWindows, match="choose a region"):
        windows()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has an X server to lose")
def test_a_display_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch):
    from Xlib.error import DisplayConnectionError

    def refuse(*_: object) -> None:
        raise DisplayConnectionError(":0", "refused")

    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(SourceError, match="check that DISPLAY"):
        WindowSource("x").open()
    monkeypatch.setattr("Xlib.display.Display", refuse)
    with pytest.raises(NoWindows, match="cannot be asked"):
        windows()
