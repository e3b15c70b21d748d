"""Which windows are on the screen, and whether a program may know."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WAYLAND_ADVICE = (
    "On Wayland a program may not read the screen by itself. What works here: share the screen with OBS Studio and "
    "choose its virtual camera in Vitrail, or log in to an X11 (Xorg) session."
)


class NoWindows(Exception):
    """Windows cannot be listed here. The message is one sentence for the user: why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window on the screen.

    Attributes:
        number: that the system knows it by.
        title: as its title bar shows it.
        left, top, width, height: of its content in pixels, from the upper left corner of the whole desktop.
    """

    number: int
    title: str
    left: int
    top: int
    width: int
    height: int


def on_wayland() -> bool:
    """Whether this is a Wayland session in which X shows only windows of X programs, and no desktop."""
    if not sys.platform.startswith("linux"):
        return False
    wayland = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_SESSION_TYPE") == "wayland"
    # A real X server (Xvfb, a remote desktop) may run within a Wayland session; Xwayland gives itself away.
    return bool(wayland) and (not os.environ.get("DISPLAY") or _is_xwayland())


def windows() -> list[Window]:
    """The windows that can be seen, by title; as ``WindowList`` for a single look. Raises ``NoWindows``."""
    listing = WindowList()
    try:
        return listing.look()
    finally:
        listing.close()


class WindowList:
    """A connection to the display that windows can be asked for, again and again. Used by one thread at a time.

    Raises:
        NoWindows: this system does not let a program list them.
    """

    def __init__(self) -> None:
        self._display: Any = None
        if sys.platform == "darwin":
            raise NoWindows("macOS does not tell Vitrail where windows are; choose a region of the screen instead.")
        if on_wayland():
            raise NoWindows(WAYLAND_ADVICE)
        if sys.platform != "win32":
            self._display = _x_display()

    def look(self) -> list[Window]:
        """The windows that can be seen now, by title. Raises ``NoWindows`` where the display is gone."""
        found = list(_windows_of_windows()) if self._display is None else self._look_at_x()
        return sorted(found, key=lambda window: (window.title.casefold(), window.number))

    def close(self) -> None:
        """End the connection."""
        display, self._display = self._display, None
        if display is not None:
            with contextlib.suppress(*_gone()):
                display.close()

    def _look_at_x(self) -> list[Window]:
        try:
            candidates = _x_candidates(self._display)
            return [found for one in candidates if (found := _x_window(self._display, one)) is not None]
        except _gone() as error:
            raise NoWindows(f"The display cannot be asked for its windows ({error}).") from error


def _gone() -> tuple[type[Exception], ...]:
    """What python-xlib raises where the server does not answer."""
    from Xlib.error import ConnectionClosedError, DisplayError

    return ConnectionClosedError, DisplayError, OSError


def _x_display() -> Any:
    from Xlib.display import Display
    from Xlib.error import XauthError

    try:
        return Display()
    except (*_gone(), XauthError) as error:
        raise NoWindows(f"The display cannot be asked for its windows ({error}).") from error


def _is_xwayland() -> bool:
    try:
        display = _x_display()
    except NoWindows:
        return True
    try:
        # Since 23.1 it has an extension of this name; older ones call their outputs so.
        return bool(display.query_extension("XWAYLAND")) or _has_output(display, "XWAYLAND")
    finally:
        display.close()


def has_compositor() -> bool:
    """Whether a program puts the windows of the X display together, so that some may be seen through (EWMH)."""
    from Xlib import X

    try:
        display = _x_display()
    except NoWindows:
        return False
    try:
        manager = display.intern_atom(f"_NET_WM_CM_S{display.get_default_screen()}")
        return display.get_selection_owner(manager) != X.NONE
    finally:
        display.close()


def _has_output(display: Any, prefix: str) -> bool:
    from Xlib.error import XError
    from Xlib.ext import randr

    if not display.query_extension("RANDR"):
        return False
    try:
        resources = randr.get_screen_resources(display.screen().root)
        names = [
            randr.get_output_info(display, output, resources.config_timestamp).name for output in resources.outputs
        ]
    except XError:
        return False
    return any(str(name).startswith(prefix) for name in names)


def _x_candidates(display: Any) -> list[Any]:
    """What the window manager lists; without one, whatever lies on the desktop itself."""
    from Xlib import X

    root = display.screen().root
    listed = root.get_full_property(display.intern_atom("_NET_CLIENT_LIST"), X.AnyPropertyType)
    if listed is not None:
        return [display.create_resource_object("window", number) for number in listed.value]
    return list(root.query_tree().children)


def _x_window(display: Any, window: Any) -> Window | None:
    """What is known of a window; None for one that cannot be seen, has no title, or is gone."""
    from Xlib import X
    from Xlib.error import XError

    try:
        if window.get_attributes().map_state != X.IsViewable:
            return None
        title = _x_title(display, window)
        shape = window.get_geometry()
        corner = display.screen().root.translate_coords(window, 0, 0)
    except XError:
        return None
    if not title or shape.width < 2 or shape.height < 2:
        return None
    return Window(window.id, title, corner.x, corner.y, shape.width, shape.height)


def _x_title(display: Any, window: Any) -> str:
    from Xlib import X

    modern = window.get_full_property(display.intern_atom("_NET_WM_NAME"), X.AnyPropertyType)
    title = modern.value if modern is not None else window.get_wm_name()
    return title.decode("utf-8", "replace") if isinstance(title, bytes) else str(title or "")


def _windows_of_windows() -> Iterator[Window]:
    """By ``EnumWindows``, each with its frame but without its shadow, which the compositor knows."""
    if sys.platform != "win32":
        return
    from ctypes import wintypes

    user, compositor = ctypes.windll.user32, ctypes.windll.dwmapi
    handles: list[int] = []
    visit = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
    user.EnumWindows(visit(lambda handle, _: handles.append(handle) or True), 0)
    for handle in handles:
        length = user.GetWindowTextLengthW(wintypes.HWND(handle))
        if not length or not user.IsWindowVisible(wintypes.HWND(handle)) or user.IsIconic(wintypes.HWND(handle)):
            continue
        cloaked, frame = wintypes.DWORD(), wintypes.RECT()
        # 14: hidden though "visible", as apps in the background are. 9: the frame's edges as they are seen.
        compositor.DwmGetWindowAttribute(wintypes.HWND(handle), 14, ctypes.byref(cloaked), 4)
        if cloaked.value or compositor.DwmGetWindowAttribute(wintypes.HWND(handle), 9, ctypes.byref(frame), 16):
            continue
        title = ctypes.create_unicode_buffer(length + 1)
        user.GetWindowTextW(wintypes.HWND(handle), title, length + 1)
        width, height = frame.right - frame.left, frame.bottom - frame.top
        if width > 1 and height > 1:
            yield Window(handle, title.value, frame.left, frame.top, width, height)
