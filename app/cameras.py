"""Which cameras this machine has, by number and name, without opening any of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
from av.error import FFmpegError

_SYSFS = Path("/sys/class/video4linux")
_DEV, _PROC = Path("/dev"), Path("/proc")

# Sizes that nearly every camera can give one of; each gives the nearest that it has.
CAMERA_SIZES = ((640, 480), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that can be opened as ``camera:INDEX`` or ``camera:NAME``.

    Attributes:
        index: the number that OpenCV knows it by, under ``backend()``.
        name: what the driver calls it.
    """

    index: int
    name: str


def cameras() -> list[Camera]:
    """The cameras of this machine in the order of their numbers; empty where there are none or none can be listed."""
    if sys.platform.startswith("linux"):
        return linux_cameras()
    return _cameras_of_ffmpeg("dshow" if sys.platform == "win32" else "avfoundation")


class CameraListing:
    """The cameras as they come and go, for whoever wants to ask often: asking never waits.

    Args:
        seconds: how old an answer may be before another look is taken, on a thread of its own: on Windows and macOS
            it can take a good part of a second.
        look: takes a look; for tests.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        seconds: float = LOOK_SECONDS,
        look: Callable[[], list[Camera]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._look = look if look is not None else cameras
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[Camera, ...] = ()
        self._looked: float | None = None
        self._looking: threading.Thread | None = None

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The cameras as last seen, in the order of their numbers; empty before the first look is done."""
        with self._lock:
            stale = self._looked is None or self._clock() - self._looked >= self._seconds
            if stale and (self._looking is None or not self._looking.is_alive()):
                self._looked = self._clock()
                self._looking = threading.Thread(target=self._refresh, name="vitrail-cameras", daemon=True)
                self._looking.start()
            return self._seen

    def wait(self, timeout: float | None = None) -> tuple[Camera, ...]:
        """The cameras once the look that is under way, if any, is done."""
        self.cameras  # noqa: B018 - begins a look
        looking = self._looking
        if looking is not None:
            looking.join(timeout)
        return self._seen

    def _refresh(self) -> None:
        self._seen = tuple(self._look())


def backend() -> int:
    """The OpenCV backend whose numbers are those of ``cameras``."""
    if sys.platform.startswith("linux"):
        return cv2.CAP_V4L2
    # DirectShow opens in a fraction of Media Foundation's time, and numbers cameras in the order that FFmpeg lists.
    return cv2.CAP_DSHOW if sys.platform == "win32" else cv2.CAP_AVFOUNDATION


def linux_cameras(sysfs: Path = _SYSFS) -> list[Camera]:
    """Cameras that the kernel lists under ``sysfs``.

    One camera may have several device nodes, of which the later ones carry no pictures but metadata; only the first
    counts.
    """
    found = []
    for node in sysfs.glob("video*"):
        number = node.name.removeprefix("video")
        if number.isdecimal() and _text(node / "index") in ("0", ""):
            found.append(Camera(int(number), _text(node / "name") or node.name))
    return sorted(found, key=lambda camera: camera.index)


def users_of(index: int, *, dev: Path = _DEV, proc: Path = _PROC) -> list[str]:
    """Other programs that have a camera open, as ``name (process 123)``; empty where the system does not tell.

    Only Linux tells, and only of processes that this user may look into.
    """
    device = dev / f"video{index}"
    found = []
    for process in proc.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            used = any(one.readlink() == device for one in (process / "fd").iterdir())
        except OSError:  # of another user, or gone meanwhile
            continue
        if used:
            found.append(f"{_text(process / 'comm') or 'a program'} (process {process.name})")
    return sorted(found)


def may_open(index: int, *, dev: Path = _DEV) -> bool:
    """Whether this user has the right to open a camera; True where there is no device file to ask."""
    device = dev / f"video{index}"
    return not device.exists() or os.access(device, os.R_OK | os.W_OK)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cameras_of_ffmpeg(kind: str) -> list[Camera]:
    try:
        devices = av.enumerate_input_devices(kind)
    except (ValueError, OSError, FFmpegError):
        return []
    seen = [device for device in devices if "video" in device.media_types]
    return [Camera(index, device.description or device.name) for index, device in enumerate(seen)]
