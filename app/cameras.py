"""Which cameras this machine has, by number and name, without opening any of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
from av.error import FFmpegError

_SYSFS = Path("/sys/class/video4linux")


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
