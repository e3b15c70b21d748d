"""One window of the desktop as a source, followed where it is moved."""

from __future__ import annotations

import time

import mss

from app.sources.base import SourceError, SourceStalled
from app.sources.screen import ScreenSource
from app.window_list import NoWindows, Window, WindowList

_LOOK_SECONDS = 0.25


class WindowSource(ScreenSource):
    """The part of the screen where a window is, taken ``fps`` times a second.

    What lies over the window is in the picture too. The window is looked for four times a second; where it was closed
    or minimised, the source stalls until it (or one with that title) is back. Works on X11 and Windows.

    Args:
        which: number of the window as ``app.window_list`` gives it, or a part of its title in any case.
        fps: pictures a second to aim for, above 0.
    """

    def __init__(self, which: int | str, *, fps: float = 30.0) -> None:
        super().__init__(0, fps=fps)
        self.name = f"window {which}"
        self._which = which
        self._list: WindowList | None = None
        self._window: Window | None = None
        self._looked = 0.0
        self._found_once = False

    def _area_on(self, grabber: mss.MSS) -> dict[str, int]:
        now = time.monotonic()
        if self._window is None or now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._window = self._find()
            self._found_once = True
            self.name = f"window {self._window.title}"
        return _visible_part(self._window, grabber.monitors[0])

    def _find(self) -> Window:
        try:
            self._list = self._list or WindowList()
            seen = self._list.look()
        except NoWindows as error:
            self._forget()
            raise SourceError(str(error)) from error
        before = self._window.number if self._window is not None else None
        for window in seen:
            if window.number in (before, self._which):
                return window
        for window in seen:
            if isinstance(self._which, str) and self._which.casefold() in window.title.casefold():
                return window
        self._window = None
        if self._found_once:
            raise SourceStalled(f"{self.name} is closed or minimised; bring it back and the picture goes on.")
        there = ", ".join(repr(window.title) for window in seen[:8]) or "none"
        raise SourceError(f"There is no window {self._which!r}; there is: {there}.")

    def _disconnect(self) -> None:
        super()._disconnect()
        self._forget()

    def _forget(self) -> None:
        listing, self._list = self._list, None
        if listing is not None:
            listing.close()


def _visible_part(window: Window, desktop: dict[str, int]) -> dict[str, int]:
    """The rectangle of the window that lies on the desktop. Raises ``SourceStalled`` where none does."""
    left, top = max(window.left, desktop["left"]), max(window.top, desktop["top"])
    right = min(window.left + window.width, desktop["left"] + desktop["width"])
    bottom = min(window.top + window.height, desktop["top"] + desktop["height"])
    if right <= left or bottom <= top:
        raise SourceStalled(f"window {window.title} lies outside of the screen.")
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}
