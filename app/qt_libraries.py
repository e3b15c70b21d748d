"""Which shared libraries of the system Qt needs to open a window on Linux, and how to get those that are missing.

Qt ends the whole process when its platform plugin does not load, so this is asked before Qt is touched.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library, and the packages that bring it."""

    name: str
    debian: str
    fedora: str


_ALWAYS = (
    Library("libEGL.so.1", "libegl1", "libglvnd-egl"),
    Library("libGL.so.1", "libgl1", "libglvnd-glx"),
    Library("libfontconfig.so.1", "libfontconfig1", "fontconfig"),
    Library("libglib-2.0.so.0", "libglib2.0-0", "glib2"),
    Library("libdbus-1.so.3", "libdbus-1-3", "dbus-libs"),
    Library("libxkbcommon.so.0", "libxkbcommon0", "libxkbcommon"),
)
_ON_X11 = (
    Library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor"),
    Library("libxcb-icccm.so.4", "libxcb-icccm4", "xcb-util-wm"),
    Library("libxcb-image.so.0", "libxcb-image0", "xcb-util-image"),
    Library("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb-util-keysyms"),
    Library("libxcb-render-util.so.0", "libxcb-render-util0", "xcb-util-renderutil"),
    Library("libxcb-shape.so.0", "libxcb-shape0", "libxcb"),
    Library("libxcb-xkb.so.1", "libxcb-xkb1", "libxcb"),
    Library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "libxkbcommon-x11"),
    Library("libX11-xcb.so.1", "libx11-xcb1", "libX11-xcb"),
)


def missing_libraries(platform: str | None = None) -> list[Library]:
    """What Qt lacks to open a window here; empty where it has all it needs, and on other systems than Linux.

    Args:
        platform: Qt's name of the window system, ``xcb`` for X11; by default the one that Qt would choose.
    """
    if not sys.platform.startswith("linux"):
        return []
    if platform is None:
        platform = os.environ.get("QT_QPA_PLATFORM", "xcb" if os.environ.get("DISPLAY") else "")
    needed = _ALWAYS + _ON_X11 if platform.startswith("xcb") else _ALWAYS
    return [library for library in needed if not _loads(library.name)]


def how_to_install(libraries: list[Library]) -> str:
    """The commands that bring ``libraries``, for the two large families of distributions."""
    debian = " ".join(dict.fromkeys(library.debian for library in libraries))
    fedora = " ".join(dict.fromkeys(library.fedora for library in libraries))
    return f"on Debian or Ubuntu: sudo apt install {debian}; on Fedora: sudo dnf install {fedora}"


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
