"""A screen, or a region of one, as a source."""

from __future__ import annotations

import os
import sys
import time

import cv2
import mss
import numpy as np
from mss.exception import ScreenShotError

from app.frame import Frame
from app.screens import Screen
from app.sources.base import SourceError, SourceStalled
from app.sources.in_use import InUse
from app.sources.pacing import Beat
from app.window_list import WAYLAND_ADVICE, on_wayland


def screens() -> list[Screen]:
    """The screens as they are now. Raises ``SourceError`` where none can be read."""
    grabber = _grabber_of_display()
    try:
        found = grabber.monitors[1:]  # the first entry is all of them together
    except ScreenShotError as error:
        raise SourceError(_refused(error)) from error
    finally:
        grabber.close()
    if not found:
        raise SourceError("There is no screen to read.")
    return [Screen(number, one["left"], one["top"], one["width"], one["height"]) for number, one in enumerate(found, 1)]


class ScreenSource:
    """Pictures of a monitor, taken ``fps`` times a second, with the mouse pointer where the system tells its shape.

    Args:
        monitor: 1 for the first monitor, 2 for the second, and so on; 0 for all of them together.
        region: (x, y, width, height) in pixels from the monitor's upper left corner; None for all of it.
        fps: pictures a second to aim for, above 0.
    """

    def __init__(self, monitor: int = 1, region: tuple[int, int, int, int] | None = None, *, fps: float = 30.0) -> None:
        self.name = f"screen {monitor}" if monitor else "all screens"
        self.live = True
        self.fps: float | None = fps
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._monitor, self._region = monitor, region
        self._beat = Beat(fps)
        self._in_use = InUse(self._disconnect)
        self._grabber: mss.MSS | None = None
        self._index = 0

    def open(self) -> None:
        """Connect to the display.

        Raises:
            SourceError: there is no display, no such monitor, or the region lies outside of it.
        """
        self._beat.start()
        self._in_use.begin()
        with self._in_use:
            self._disconnect()
            self._connect()

    def read(self) -> Frame | None:
        """The screen as it is at the next beat; None after ``close``.

        Raises:
            SourceStalled: the display does not answer, for one because it was locked or changed its size.
        """
        if not self._beat.wait():
            return None
        with self._in_use:
            if self._in_use.ended:
                return None
            try:
                grabber = self._grabber or self._connect()
                shot = grabber.grab(self._area_on(grabber))
            except (ScreenShotError, SourceError) as error:
                self._disconnect()
                raise SourceStalled(f"{self.name} gives no picture: {error}") from error
        captured_at = time.monotonic()
        bgra = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        index = self._index
        self._index += 1
        return Frame(index, captured_at, cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB))

    def close(self) -> None:
        """Let go of the display, without waiting for it; a ``read`` that waits for its time returns None at once."""
        self._beat.stop()
        self._in_use.end()

    def _connect(self) -> mss.MSS:
        self._grabber = grabber = _grabber_of_display()
        try:
            self._area_on(grabber)
        except ScreenShotError as error:
            self._disconnect()
            raise SourceError(_refused(error)) from error
        except SourceError:
            self._disconnect()
            raise
        return grabber

    def _area_on(self, grabber: mss.MSS) -> dict[str, int]:
        """The rectangle to grab now, in the display's coordinates. Raises ``SourceError`` where there is none."""
        monitors = grabber.monitors
        if not 0 <= self._monitor < len(monitors):
            raise SourceError(f"There is no screen {self._monitor}; this machine has {len(monitors) - 1}.")
        return _area(monitors[self._monitor], self._region)

    def _disconnect(self) -> None:
        grabber, self._grabber = self._grabber, None
        if grabber is not None:
            grabber.close()


def _grabber_of_display() -> mss.MSS:
    """mss on the current display, to be used by one thread. Raises ``SourceError`` where there is none."""
    linux = sys.platform.startswith("linux")
    if on_wayland():  # Xwayland would answer, with a black picture
        raise SourceError(WAYLAND_ADVICE)
    if linux and not os.environ.get("DISPLAY"):
        raise SourceError("There is no display to read the screen from; run this in a desktop session.")
    try:
        # Elsewhere the system draws the pointer into the picture, or cannot.
        return mss.MSS(with_cursor=True) if linux else mss.MSS()
    except ScreenShotError as error:
        raise SourceError(_refused(error)) from error


def _refused(error: ScreenShotError) -> str:
    """One sentence on why the screen cannot be read."""
    if sys.platform == "darwin":
        return "The screen cannot be read; allow it in System Settings, Privacy & Security, Screen Recording."
    return f"The screen cannot be read ({error}); check that DISPLAY names a running display."


def _area(monitor: dict[str, int], region: tuple[int, int, int, int] | None) -> dict[str, int]:
    """The rectangle to grab, in the display's coordinates. Raises ``SourceError`` where it is not on the monitor."""
    width, height = monitor["width"], monitor["height"]
    x, y, wide, high = region or (0, 0, width, height)
    if x < 0 or y < 0 or wide < 1 or high < 1 or x + wide > width or y + high > height:
        raise SourceError(f"The region {x},{y},{wide},{high} is not within the screen, which is {width}x{height}.")
    return {"left": monitor["left"] + x, "top": monitor["top"] + y, "width": wide, "height": high}
