"""A webcam as a source, by number or by a part of its name.

A driver may block for many seconds in the call that opens it or waits for a picture, and nothing can interrupt that
call. It blocks the thread that reads (``app/feed.py``) and nobody else: ``close`` never waits for it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from app.cameras import backend, cameras, may_open, users_of
from app.frame import Frame
from app.sources.base import SourceError, SourceStalled
from app.sources.in_use import InUse

_FPS = 30.0  # to ask for: many drivers begin with less
_FITS_UNCOMPRESSED = 640 * 480  # pixels
_MJPG = cv2.VideoWriter.fourcc(*"MJPG")
_HANDS_SECONDS = 5.0
_HANDS: dict[int, threading.Lock] = {}


class Device(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...
    def read(self) -> tuple[bool, np.ndarray]: ...
    def get(self, propId: int, /) -> float: ...
    def set(self, propId: int, value: float, /) -> bool: ...
    def release(self) -> None: ...


class CameraSource:
    """The pictures of a camera, as they come.

    After ``SourceStalled`` the source may be opened again: by its name, where it was given one, so that a camera that
    comes back under another number is found. Indices go on counting.

    Args:
        which: number of the camera, or a part of its name in any case.
        size: (width, height) to ask the camera for; it may give another.
        connect: opens the device of a number; for tests.
    """

    def __init__(
        self,
        which: int | str = 0,
        *,
        size: tuple[int, int] = (640, 480),
        connect: Callable[[int], Device] | None = None,
    ) -> None:
        self.name = f"camera {which}"
        self.live = True
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._which = which
        self._size = size
        self._connect = connect or _connect
        self._in_use = InUse(self._let_go)
        self._device: Device | None = None
        self._index = 0
        self._number = 0  # of the device
        self._worked_once = False

    def open(self) -> None:
        """Connect to the camera. A driver may take many seconds.

        Raises:
            SourceStalled: it worked before, and cannot be opened now.
            SourceError: there is no such camera, or another program uses it.
        """
        self._in_use.begin()
        with self._in_use:
            self._let_go()
            self._number, self.name = _find(self._which, lost=self._worked_once)
            if not _hands(self._number).acquire(timeout=_HANDS_SECONDS):
                raise SourceStalled(f"{self.name} was not let go of by its driver yet; unplug it and plug it in again.")
            try:
                self._device = device = self._opened()
            except BaseException:
                _hands(self._number).release()
                raise
            fps = device.get(cv2.CAP_PROP_FPS)
            self.fps = fps if 0 < fps <= 1000 else None

    def read(self) -> Frame | None:
        """The next picture; None after ``close``.

        Raises:
            SourceStalled: none comes, or the camera was pulled out.
        """
        with self._in_use:
            return None if self._device is None else self._read(self._device)

    def close(self) -> None:
        """Release the camera; where its driver is at work, as soon as it is done. Never waits."""
        self._in_use.end()

    def why_silent(self) -> str:
        """One sentence on why nothing comes, while the driver is at it."""
        return _why_no_picture(self._number, self.name, came=self._worked_once)

    def _read(self, device: Device) -> Frame | None:
        try:
            came, bgr = device.read()
        except cv2.error:  # OpenCV's way to say that the device is gone
            came, bgr = False, None
        if self._in_use.ended:
            return None
        if not came or bgr is None:
            self._let_go()
            raise SourceStalled(_why_no_picture(self._number, self.name, came=self._worked_once))
        captured_at = time.monotonic()
        self._worked_once = True
        index = self._index
        self._index += 1
        return Frame(index, captured_at, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))

    def _opened(self) -> Device:
        """The device, asked for what is wanted; plainly, where it gives no picture in the format that is fastest."""
        device = self._connected()
        if not _ask_for_compressed(device, self._size):
            _ask_for_size(device, self._size)
            return device
        with contextlib.suppress(cv2.error):
            if device.read()[0]:
                return device
        device.release()
        device = self._connected()
        _ask_for_size(device, self._size)
        return device

    def _connected(self) -> Device:
        device = self._connect(self._number)
        if not device.isOpened():
            device.release()
            message = _cannot_open(self._number, self.name)
            raise SourceStalled(message) if self._worked_once else SourceError(message)
        return device

    def _let_go(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            try:
                device.release()
            finally:
                _hands(self._number).release()


def _ask_for_compressed(device: Device, size: tuple[int, int]) -> bool:
    """Have the camera send JPEGs where its pictures are large; whether it says that it will.

    Uncompressed, a large picture does not fit through USB 2 more than five or ten times a second.
    """
    if size[0] * size[1] <= _FITS_UNCOMPRESSED:
        return False
    if not device.set(cv2.CAP_PROP_FOURCC, _MJPG):
        return False
    _ask_for_size(device, size)
    return True


def _ask_for_size(device: Device, size: tuple[int, int]) -> None:
    device.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
    device.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    device.set(cv2.CAP_PROP_FPS, _FPS)


def _hands(index: int) -> threading.Lock:
    """Held by whoever of this program has the device of this number: a driver that is slow to let go of it is waited
    for, instead of being told of a program in use that is our own."""
    return _HANDS.setdefault(index, threading.Lock())


def _connect(index: int) -> Device:
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # a missing camera is told in our own words
    try:
        return cv2.VideoCapture(index, backend())
    finally:
        cv2.utils.logging.setLogLevel(before)


def _find(which: int | str, *, lost: bool) -> tuple[int, str]:
    """Number and full name of the camera meant. Raises ``SourceError``, or ``SourceStalled`` for one ``lost``."""
    known = cameras()
    for camera in known:
        if camera.index == which or (isinstance(which, str) and which.casefold() in camera.name.casefold()):
            return camera.index, f"camera {camera.index} ({camera.name})"
    if isinstance(which, int):
        return which, f"camera {which}"
    there = ", ".join(f"{camera.index} ({camera.name})" for camera in known) or "none, or none with a name"
    message = f"No camera has {which!r} in its name; there is: {there}."
    raise SourceStalled(message) if lost else SourceError(message)


def _cannot_open(index: int, name: str) -> str:
    """One sentence on why a camera does not open."""
    known = cameras()
    if any(camera.index == index for camera in known):
        return _taken(index, name) or (
            f"{name} cannot be opened; another program may be using it, or this one may lack the permission to."
        )
    there = ", ".join(f"{camera.index} ({camera.name})" for camera in known)
    if there:
        return f"There is no camera {index}; there is: {there}."
    return "No camera was found; plug one in, or style a clip or a screen instead."


def _why_no_picture(index: int, name: str, *, came: bool) -> str:
    """One sentence on why an open camera gives nothing."""
    if came and not any(camera.index == index for camera in cameras()):
        return f"{name} was unplugged; plug it in again and the picture comes back."
    return _taken(index, name) or (
        f"No picture comes from {name}; check that it is plugged in and not used by another program."
    )


def _taken(index: int, name: str) -> str | None:
    """Who has the camera instead, as far as the system tells."""
    if users := users_of(index):
        return f"{name} is in use by {', '.join(users)}; close it there, or choose another camera."
    if not may_open(index):
        return f"This account may not use {name}; on Linux: sudo usermod -aG video $USER, then log in again."
    return None
