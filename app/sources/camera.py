"""A webcam as a source, by number or by a part of its name.

A driver may block for many seconds in the call that waits for a picture, and nothing can interrupt that call. So the
device belongs to a small thread of its own that keeps the latest picture, and ``read`` waits for that thread with a
limit: ``close`` takes effect at once, and a camera that was pulled out is noticed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from app.cameras import backend, cameras, may_open, users_of
from app.frame import Frame
from app.sources.base import SourceError, SourceStalled

_PATIENCE_SECONDS = 2.0
_WAKE_UP_FACTOR = 5  # cameras take their time to give a first picture


class Device(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...
    def read(self) -> tuple[bool, np.ndarray]: ...
    def get(self, propId: int, /) -> float: ...
    def set(self, propId: int, value: float, /) -> bool: ...
    def release(self) -> None: ...


class CameraSource:
    """The latest picture of a camera, each at most once.

    After ``SourceStalled`` the source may be read again: it then opens the camera anew, by its name where it was
    given one, so that a camera that comes back under another number is found. Indices go on counting.

    Args:
        which: number of the camera, or a part of its name in any case.
        size: (width, height) to ask the camera for; it may give another.
        connect: opens the device of a number; for tests.
        patience: seconds without a picture after which the camera counts as stalled; five times that for the first.
    """

    def __init__(
        self,
        which: int | str = 0,
        *,
        size: tuple[int, int] = (640, 480),
        connect: Callable[[int], Device] | None = None,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self.name = f"camera {which}"
        self.live = True
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._which = which
        self._size = size
        self._connect = connect or _connect
        self._patience = patience
        self._feed: _Feed | None = None
        self._closed = threading.Event()
        self._index = 0
        self._index_of_device = 0
        self._worked_once = False

    def open(self) -> None:
        """Connect to the camera.

        Raises:
            SourceStalled: it worked before, and cannot be opened now.
            SourceError: there is no such camera, or another program uses it.
        """
        self._closed.clear()
        self._let_go()
        self._start()

    def read(self) -> Frame | None:
        """The next picture; None after ``close``.

        Raises:
            SourceStalled: no picture came in time, or the camera was pulled out.
        """
        if self._closed.is_set():
            return None
        feed = self._feed or self._start()
        patience = self._patience if feed.came else _WAKE_UP_FACTOR * self._patience
        picture = feed.next(patience)
        if self._closed.is_set():
            return None
        if picture is None:
            self._let_go()
            raise SourceStalled(_why_no_picture(self._index_of_device, self.name, came=self._worked_once))
        self._worked_once = True
        captured_at, pixels = picture
        index = self._index
        self._index += 1
        return Frame(index, captured_at, pixels)

    def close(self) -> None:
        """Release the camera; a waiting ``read`` returns None at once."""
        self._closed.set()
        self._let_go()

    def _start(self) -> _Feed:
        index, self.name = _find(self._which, lost=self._worked_once)
        self._index_of_device = index
        device = self._connect(index)
        if not device.isOpened():
            device.release()
            raise self._problem(_cannot_open(index, self.name))
        width, height = self._size
        device.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        device.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        fps = device.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None
        self._feed = feed = _Feed(device)
        if self._closed.is_set():  # by another thread, meanwhile
            self._let_go()
        return feed

    def _let_go(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.stop()

    def _problem(self, message: str) -> SourceError:
        return SourceStalled(message) if self._worked_once else SourceError(message)


class _Feed:
    """Owns an open device: a thread that reads it and keeps the latest picture."""

    def __init__(self, device: Device) -> None:
        self.came = False  # whether a picture ever came
        self._device = device
        self._changed = threading.Condition()
        self._latest: tuple[float, np.ndarray] | None = None
        self._ended = False
        # A daemon, because a driver that never returns must not keep the program from ending.
        threading.Thread(target=self._run, name="vitrail-camera", daemon=True).start()

    def next(self, patience: float) -> tuple[float, np.ndarray] | None:
        """The latest picture not yet given; None after ``patience`` seconds without one, or when stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._latest is not None or self._ended, timeout=patience)
            latest, self._latest = self._latest, None
            self.came = self.came or latest is not None
            return latest

    def stop(self) -> None:
        """Wake a waiting ``next``; the device is released as soon as its driver lets go."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while not self._ended:
                came, bgr = self._device.read()
                if not came or bgr is None:
                    return
                picture = (time.monotonic(), cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                with self._changed:
                    self._latest = picture
                    self._changed.notify_all()
        except cv2.error:
            return  # OpenCV's way to say that the device is gone
        finally:
            self._device.release()
            self.stop()


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
