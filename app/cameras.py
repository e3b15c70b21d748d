"""Which cameras this machine has, by number and name, without opening any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import cv2
from av.error import FFmpegError

from app.v4l2 import Capability, capability_of

_SYSFS = Path("/sys/class/video4linux")
_DEV, _PROC = Path("/dev"), Path("/proc")

# Sizes that nearly every camera can give one of; each gives the nearest that it has.
CAMERA_SIZES = ((640, 480), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160), (320, 240))
# The name that ``app/sinks/virtual_camera.py`` has people give the device that Vitrail writes to on Linux.
OUR_LABEL = "Vitrail"
# What this process writes to at the moment: a path on Linux, a name elsewhere. It is no camera to read from: the
# picture would be made of itself.
our_outputs: set[str] = set()

_PROFILER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that can be opened as ``camera:INDEX`` or ``camera:NAME``.

    Attributes:
        index: the number that OpenCV knows it by, under ``backend()``.
        name: what the driver calls it.
        virtual: whether a program stands behind it, which perhaps sends nothing: to be chosen, but not by itself.
    """

    index: int
    name: str
    virtual: bool = False


class Listed(Protocol):
    """What is used of an entry of FFmpeg's listings (``av.device.DeviceInfo``)."""

    name: str
    description: str
    media_types: list[str]


def cameras() -> list[Camera]:
    """The cameras of this machine in the order of their numbers; empty where there are none or none can be listed.

    It may take a good part of a second on Windows and macOS.
    """
    if sys.platform.startswith("linux"):
        return linux_cameras(ours=our_outputs)
    if sys.platform == "win32":
        found = directshow_cameras(_listed("dshow"))
    else:
        found = profiler_cameras(_profiler_report()) or avfoundation_cameras(_listed("avfoundation"))
    return [camera for camera in found if camera.name not in our_outputs]


def first_camera() -> Camera | None:
    """The camera to begin with where nobody has chosen one; None where there is none but virtual ones."""
    return next((camera for camera in cameras() if not camera.virtual), None)


def backend() -> int:
    """The OpenCV backend whose numbers are those of ``cameras``."""
    if sys.platform.startswith("linux"):
        return cv2.CAP_V4L2
    # DirectShow opens in a fraction of Media Foundation's time, and numbers cameras in the order that FFmpeg lists.
    return cv2.CAP_DSHOW if sys.platform == "win32" else cv2.CAP_AVFOUNDATION


def linux_cameras(
    sysfs: Path = _SYSFS,
    *,
    dev: Path = _DEV,
    ask: Callable[[Path], Capability | None] = capability_of,
    ours: Collection[str] = (),
) -> list[Camera]:
    """Cameras that the kernel lists under ``sysfs``.

    One camera may have several device nodes, of which the later ones carry no pictures but metadata; only the first
    counts. A node that only takes pictures is none, and neither is a loopback device that is ours: by its label,
    or because this process writes to it (``ours``).
    """
    found = []
    for node in sysfs.glob("video*"):
        number = node.name.removeprefix("video")
        if not number.isdecimal() or _text(node / "index") not in ("0", ""):
            continue
        said = ask(dev / node.name)
        name = _text(node / "name") or (said.card if said else "") or node.name
        virtual = said is not None and said.virtual
        if (said and not said.captures) or (virtual and name == OUR_LABEL) or str(dev / node.name) in ours:
            continue
        found.append(Camera(int(number), name, virtual))
    return sorted(found, key=lambda camera: camera.index)


def directshow_cameras(listed: Sequence[Listed]) -> list[Camera]:
    """Windows's cameras, from FFmpeg's listing. Not run on Windows; tested on recorded listings.

    FFmpeg lists the category of video inputs, in the order in which OpenCV numbers them, and the sound inputs after it.
    A device that tells no type before it is running, such as OBS's virtual camera, is listed without one: it counts.
    """
    return [
        Camera(index, _name_of(one), _is_virtual(_name_of(one)))
        for index, one in enumerate(listed)
        if "video" in one.media_types or not one.media_types
    ]


def avfoundation_cameras(listed: Sequence[Listed]) -> list[Camera]:
    """macOS's cameras, from FFmpeg's listing. Not run on macOS; tested on recorded listings.

    FFmpeg lists the screens with the cameras, after them, and OpenCV does not know them. Where there are several
    cameras their order may not be OpenCV's: see ``profiler_cameras``.
    """
    return [
        Camera(int(one.name), _name_of(one), _is_virtual(_name_of(one)))
        for one in listed
        if "video" in one.media_types and one.name.isdecimal() and not one.description.startswith("Capture screen ")
    ]


def profiler_cameras(report: str) -> list[Camera]:
    """macOS's cameras, from ``system_profiler -json SPCameraDataType``. Not run on macOS; tested on recorded reports.

    OpenCV numbers cameras by the order of their unique identifiers, which FFmpeg does not tell.
    """
    try:
        entries = json.loads(report)["SPCameraDataType"]
        known = sorted((str(one["spcamera_unique-id"]), str(one["_name"])) for one in entries)
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [Camera(index, name, _is_virtual(name)) for index, (_, name) in enumerate(known)]


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


def _name_of(one: Listed) -> str:
    return one.description or one.name


def _is_virtual(name: str) -> bool:
    return "virtual camera" in name.casefold()


def _listed(kind: str) -> Sequence[Listed]:
    try:
        return av.enumerate_input_devices(kind)
    except (ValueError, OSError, FFmpegError):
        return ()


def _profiler_report() -> str:
    """What macOS tells of its cameras; empty where it tells nothing."""
    order = ("system_profiler", "-json", "SPCameraDataType")
    try:
        return subprocess.run(order, capture_output=True, text=True, timeout=_PROFILER_SECONDS, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
