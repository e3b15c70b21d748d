"""The styled picture as a camera that other programs can choose, by way of pyvirtualcam."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

from app.cameras import OUR_LABEL, our_outputs
from app.fitting import laid_on
from app.frame import Frame
from app.opacity import opaque
from app.sinks.background import BackgroundSink
from app.sinks.base import SinkError

DEFAULT_SIZE = (1280, 720)
# While the stream stalls or is paused, the last picture is sent once more so often: programs take a camera that falls
# silent for one that is broken.
REPEAT_SECONDS = 0.1

_PACKAGE = "The package pyvirtualcam is missing: uv sync --extra virtual-camera (or pip install pyvirtualcam)."
_DRIVERS = {
    "linux": (
        "Install the driver once (Debian, Ubuntu: sudo apt install v4l2loopback-dkms; Fedora: v4l2loopback from RPM "
        f'Fusion), then load it: sudo modprobe v4l2loopback exclusive_caps=1 card_label="{OUR_LABEL}".'
    ),
    "win32": (
        "Install OBS Studio (winget install OBSProject.OBSStudio), start it once, press 'Start Virtual Camera' and "
        "'Stop Virtual Camera', and close it; Vitrail then writes to 'OBS Virtual Camera'."
    ),
    "darwin": (
        "Install OBS Studio (brew install --cask obs), start it once, press 'Start Virtual Camera', allow its system "
        "extension in System Settings, press 'Stop Virtual Camera', and close it; Vitrail then writes to it."
    ),
}


def driver_help(platform: str = sys.platform) -> str:
    """What to install for a virtual camera on this (or another) ``sys.platform``; one or two sentences."""
    return _DRIVERS.get(platform, _DRIVERS["linux"])


class VirtualCameraSink:
    """Sends frames to a virtual camera, fitted into its size with black bars; what is transparent is green.

    The size is fixed from the start, as programs that watch a camera do not follow a change.

    Args:
        size: (width, height) of the camera's picture.
        fps: that the camera announces; frames are sent as they come.
        device: name of the camera to write to (``/dev/video4``); the first that is free by default.

    Attributes:
        device: once open, the name under which other programs find it.
    """

    def __init__(self, size: tuple[int, int] = DEFAULT_SIZE, *, fps: float = 30.0, device: str | None = None) -> None:
        self.name = "virtual camera"
        self.device: str | None = device
        self._wanted = device
        self._size = size
        self._fps = fps
        self._black = np.zeros((size[1], size[0], 3), np.uint8)
        self._camera: Any = None

    def open(self) -> None:
        """Take the camera.

        Raises:
            SinkError: the package or the driver is missing, or another program writes to the camera; the message
                says what to install, and how.
        """
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError(f"There is no virtual camera. {_PACKAGE} {driver_help()}") from error
        width, height = self._size
        try:
            self._camera = pyvirtualcam.Camera(width, height, self._fps, device=self._wanted)
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise SinkError(f"No virtual camera can be opened ({reason}). {driver_help()}") from error
        self.device = self._camera.device
        our_outputs.add(str(self.device))
        self.name = f"virtual camera ({self.device})"

    def write(self, frame: Frame) -> None:
        """Send one frame. Raises ``SinkError`` where the driver does not take it."""
        if self._camera is None:
            return
        try:
            self._camera.send(laid_on(self._black.copy(), opaque(frame)))
        except (RuntimeError, OSError, ValueError) as error:
            raise SinkError(f"{self.name} takes no picture: {error}.") from error

    def close(self) -> None:
        """Let go of the camera."""
        camera, self._camera = self._camera, None
        our_outputs.discard(str(self.device))
        if camera is not None:
            with contextlib.suppress(RuntimeError, OSError):  # it is given up either way
                camera.close()


def camera_size(width: int, height: int) -> tuple[int, int]:
    """The size of a camera for pictures of this size: their shape, with a shorter side of 720 pixels, without bars.

    Sides are multiples of 4, as some drivers want them, and at most 1920; where there is no picture yet (0, 0), it is
    the usual one.
    """
    if not width or not height:
        return DEFAULT_SIZE
    scale = min(720 / min(width, height), 1920 / max(width, height))
    return 4 * max(1, round(width * scale / 4)), 4 * max(1, round(height * scale / 4))


def virtual_camera(size: tuple[int, int] = DEFAULT_SIZE, *, fps: float = 30.0) -> BackgroundSink:
    """A virtual camera that the picture never waits for, and that never falls silent once it has had a picture.

    Of the frames that wait for it only the newest is kept.
    """
    return BackgroundSink(VirtualCameraSink(size, fps=fps), waiting=1, repeat_seconds=REPEAT_SECONDS)
