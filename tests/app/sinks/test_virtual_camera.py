"""The virtual camera: with a scripted driver, with the real one where there is one, and the help where not."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.cameras import our_outputs
from app.frame import Frame
from app.sinks import SinkError, VirtualCameraSink, virtual_camera
from app.sinks.virtual_camera import camera_size, driver_help
from tests.app.fakes import until


class ScriptedCamera:
    """Stands in for ``pyvirtualcam.Camera``."""

    made: list[ScriptedCamera]
    broken = False

    def __init__(self, width: int, height: int, fps: float, *, device: str | None = None) -> None:
        self.size, self.fps, self.device = (width, height), fps, device or "/dev/video7"
        self.sent: list[np.ndarray] = []
        self.closed = 0
        ScriptedCamera.made.append(self)

    def send(self, picture: np.ndarray) -> None:
        if ScriptedCamera.broken:
            raise RuntimeError("error writing frame")
        assert picture.shape == (self.size[1], self.size[0], 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        self.sent.append(picture)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedCamera]:
    ScriptedCamera.made = []
    ScriptedCamera.broken = False
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=ScriptedCamera))
    return ScriptedCamera


def frame(width: int, height: int, value: int = 200) -> Frame:
    return Frame(0, 0.0, np.full((height, width, 3), value, np.uint8))


def test_frames_are_fitted_into_the_cameras_picture(driver: type[ScriptedCamera]):
    sink = VirtualCameraSink((320, 180))
    sink.open()
    assert "/dev/video7" in sink.name
    for size in [(320, 180), (64, 64), (500, 100)]:
        sink.write(frame(*size))
    sink.close()
    sink.close()
    (camera,) = driver.made
    assert camera.closed == 1
    whole, square, wide = camera.sent
    assert (whole == 200).all()
    assert (square[:, 70:250] == 200).all()
    assert (square[:, :70] == 0).all()
    assert (wide[58:122] == 200).all()
    assert (wide[:58] == 0).all()


def test_a_driver_that_fails_is_told(driver: type[ScriptedCamera]):
    sink = VirtualCameraSink()
    sink.open()
    driver.broken = True
    with pytest.raises(SinkError, match="takes no picture: error writing"):
        sink.write(frame(64, 64))
    sink.close()


def test_the_apps_camera_has_a_thread_of_its_own(driver: type[ScriptedCamera]):
    sink = virtual_camera((64, 64))
    sink.open()
    sink.write(frame(64, 64))
    until(lambda: len(driver.made[0].sent) > 2)  # it does not fall silent
    sink.close()
    assert all((picture == 200).all() for picture in driver.made[0].sent)
    assert sink.written == 1


@pytest.mark.usefixtures("driver")
def test_what_is_written_to_is_no_camera_to_read_from():
    sink = VirtualCameraSink((64, 64))
    sink.open()
    assert our_outputs == {"/dev/video7"}
    sink.close()
    assert our_outputs == set()


@pytest.mark.parametrize(
    ("picture", "camera"),
    [
        ((0, 0), (1280, 720)),
        ((512, 512), (720, 720)),
        ((912, 512), (1284, 720)),
        ((512, 912), (720, 1284)),
        ((1920, 1080), (1280, 720)),
        ((2560, 1080), (1708, 720)),
        ((4096, 256), (1920, 120)),
        ((8192, 8), (1920, 4)),
    ],
)
def test_the_camera_has_the_pictures_shape(picture: tuple[int, int], camera: tuple[int, int]):
    assert camera_size(*picture) == camera


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match="uv sync --extra virtual-camera"):
        virtual_camera().open()


def test_without_a_driver_the_message_says_how_to_get_it():
    """The real package, where it is installed: without a device, its complaint comes with our help."""
    package: Any = pytest.importorskip("pyvirtualcam")
    sink = VirtualCameraSink((640, 480))
    try:
        package.Camera(640, 480, 30).close()
    except RuntimeError:
        with pytest.raises(SinkError, match="No virtual camera can be opened") as refused:
            sink.open()
        assert driver_help() in str(refused.value)
        return
    sink.open()
    assert sink.device
    assert sink.device in sink.name
    sink.write(frame(640, 480))
    sink.close()
    package.Camera(640, 480, 30).close()  # it was let go of


@pytest.mark.parametrize(("platform", "word"), [("linux", "modprobe"), ("win32", "winget"), ("darwin", "brew")])
def test_every_platform_has_its_help(platform: str, word: str):
    assert word in driver_help(platform)
