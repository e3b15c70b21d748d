"""Cameras: scripted devices behind real threads, for what no test machine has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.cameras import Camera, CameraListing, linux_cameras, may_open, users_of
from app.sources import SourceError, SourceStalled
from app.sources import camera as camera_module
from app.sources.camera import CameraSource

RED_BGR = np.full((6, 8, 3), (0, 0, 200), np.uint8)


made: list[ScriptedDevice] = []


class ScriptedDevice:
    """A ``cv2.VideoCapture`` that follows a script.

    Args:
        pictures: how many come before ``after`` is called.
        after: what the driver's read does then.
    """

    def __init__(
        self, pictures: int = 1_000_000, after: Callable[[], object] | None = None, opens: bool = True
    ) -> None:
        self.released = threading.Event()
        self.taken = threading.Semaphore(0)
        self.asked: dict[int, float] = {}
        self._pictures, self._after, self._opens = pictures, after, opens
        made.append(self)

    def isOpened(self) -> bool:
        return self._opens

    def read(self) -> tuple[bool, np.ndarray]:
        if self._pictures:
            self._pictures -= 1
            self.taken.acquire()
            return True, RED_BGR
        if self._after is not None:
            self._after()
        return False, RED_BGR

    def get(self, propId: int, /) -> float:
        return 30.0 if propId == cv2.CAP_PROP_FPS else 0.0

    def set(self, propId: int, value: float, /) -> bool:
        self.asked[propId] = value
        return True

    def release(self) -> None:
        self.released.set()


@pytest.fixture(autouse=True)
def no_reader_is_left() -> Iterator[None]:
    """Whoever still waits for a picture gets it, so that no thread goes on into other tests."""
    yield
    for device in made:
        device.taken.release(100)
    made.clear()
    for thread in threading.enumerate():
        if thread.name == "vitrail-camera":
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def two_cameras(monkeypatch: pytest.MonkeyPatch) -> list[Camera]:
    known = [Camera(0, "Laptop Lid"), Camera(2, "Logi C920")]
    monkeypatch.setattr(camera_module, "cameras", lambda: list(known))
    return known


def test_pictures_come_in_rgb_and_are_numbered():
    device = ScriptedDevice()
    source = CameraSource(0, size=(320, 240), connect=lambda _: device)
    source.open()
    frames = []
    for _ in range(3):
        device.taken.release()
        frames.append(source.read())
    source.close()
    assert [frame.index for frame in frames if frame] == [0, 1, 2]
    assert frames[0] is not None
    assert tuple(frames[0].pixels[0, 0]) == (200, 0, 0)
    assert (source.name, source.fps, source.live) == ("camera 0 (Laptop Lid)", 30.0, True)
    assert (device.asked[cv2.CAP_PROP_FRAME_WIDTH], device.asked[cv2.CAP_PROP_FRAME_HEIGHT]) == (320, 240)


def test_a_camera_is_found_by_a_part_of_its_name():
    opened = []

    def connect(index: int) -> ScriptedDevice:
        opened.append(index)
        return ScriptedDevice(0)

    source = CameraSource("c920", connect=connect)
    source.open()
    source.close()
    assert opened == [2]
    assert source.name == "camera 2 (Logi C920)"


def test_an_unknown_name_lists_what_is_there():
    with pytest.raises(SourceError, match=r"No camera has 'webcam' in its name; there is: 0 \(Laptop Lid\), 2 \(Logi"):
        CameraSource("webcam").open()


def test_a_camera_in_use_is_said_to_be():
    device = ScriptedDevice(opens=False)
    with pytest.raises(SourceError, match="cannot be opened; another program may be using it") as caught:
        CameraSource(0, connect=lambda _: device).open()
    assert not isinstance(caught.value, SourceStalled)
    assert device.released.is_set()


def test_who_has_the_camera_is_said_where_it_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(camera_module, "users_of", lambda index: ["zoom (process 77)"] if index == 2 else [])
    with pytest.raises(SourceError, match=r"Logi C920\) is in use by zoom \(process 77\); close it there"):
        CameraSource(2, connect=lambda _: ScriptedDevice(opens=False)).open()
    source = CameraSource(2, connect=lambda _: ScriptedDevice(0))  # it opens, and gives no picture
    source.open()
    with pytest.raises(SourceStalled, match="in use by zoom"):
        source.read()


def test_a_missing_permission_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(camera_module, "may_open", lambda _: False)
    with pytest.raises(SourceError, match="usermod -aG video"):
        CameraSource(0, connect=lambda _: ScriptedDevice(opens=False)).open()


def test_a_number_that_is_not_there_lists_what_is():
    with pytest.raises(SourceError, match=r"There is no camera 5; there is: 0 \(Laptop Lid\)"):
        CameraSource(5, connect=lambda _: ScriptedDevice(opens=False)).open()


def test_without_any_camera_it_says_what_else_can_be_styled(two_cameras: list[Camera]):
    two_cameras.clear()
    with pytest.raises(SourceError, match="No camera was found; plug one in, or"):
        CameraSource(0, connect=lambda _: ScriptedDevice(opens=False)).open()


def test_a_camera_pulled_out_stalls_and_is_found_again_under_its_new_number(two_cameras: list[Camera]):
    first, second = ScriptedDevice(1), ScriptedDevice()
    devices = {2: first, 3: second}
    source = CameraSource("logi", connect=devices.__getitem__)
    source.open()
    first.taken.release()
    assert source.read() is not None
    two_cameras.pop()
    with pytest.raises(SourceStalled, match=r"camera 2 \(Logi C920\) was unplugged"):
        source.read()
    assert first.released.wait(30)
    with pytest.raises(SourceStalled, match="No camera has 'logi'"):
        source.read()
    two_cameras.append(Camera(3, "Logi C920"))
    second.taken.release()
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.index == 1


def test_opencv_giving_up_is_a_stall():
    def fail() -> None:
        raise cv2.error("device is gone")

    source = CameraSource(0, connect=lambda _: ScriptedDevice(0, after=fail))
    source.open()
    with pytest.raises(SourceStalled):
        source.read()


def test_a_driver_that_hangs_is_a_stall():
    never = threading.Event()
    device = ScriptedDevice(1, after=never.wait)
    source = CameraSource(0, connect=lambda _: device, patience=0.05)
    source.open()
    device.taken.release()
    assert source.read() is not None
    with pytest.raises(SourceStalled):
        source.read()
    assert not device.released.is_set()  # still in the driver's hands, which must not be pulled away
    never.set()
    assert device.released.wait(30)


def test_close_ends_a_read_in_a_driver_that_hangs():
    never = threading.Event()
    source = CameraSource(0, connect=lambda _: ScriptedDevice(0, after=never.wait), patience=600)
    source.open()
    answers = []
    reader = threading.Thread(target=lambda: answers.append(source.read()))
    reader.start()
    source.close()
    reader.join(timeout=30)
    assert answers == [None]
    never.set()


def test_linux_tells_who_has_a_device_open(tmp_path: Path):
    dev, proc = tmp_path / "dev", tmp_path / "proc"
    for process, name, target in [("12", "zoom", "video2"), ("13", "cat", "null"), (str(os.getpid()), "me", "video2")]:
        (proc / process / "fd").mkdir(parents=True)
        (proc / process / "comm").write_text(f"{name}\n")
        (proc / process / "fd" / "3").symlink_to(dev / target)
    (proc / "14").mkdir()
    (proc / "self").mkdir()
    assert users_of(2, dev=dev, proc=proc) == ["zoom (process 12)"]
    assert users_of(0, dev=dev, proc=proc) == []
    assert may_open(2, dev=dev)


def test_a_listing_is_asked_without_waiting():
    now, looks = [0.0], []
    go_on = threading.Event()

    def look() -> list[Camera]:
        looks.append(now[0])
        assert go_on.wait(30)
        return [Camera(len(looks), "some")]

    listing = CameraListing(seconds=2, look=look, clock=lambda: now[0])
    assert listing.cameras == ()  # the look hangs, the answer does not
    assert listing.cameras == ()
    go_on.set()
    assert listing.wait(30) == (Camera(1, "some"),)
    now[0] = 1.9
    assert listing.wait(30) == (Camera(1, "some"),)
    now[0] = 2.0
    listing.cameras  # noqa: B018 - begins a look
    assert listing.wait(30) == (Camera(2, "some"),)
    assert looks == [0.0, 2.0]


def test_linux_lists_cameras_by_name_and_leaves_out_metadata_nodes(tmp_path: Path):
    for node, name, index in [
        ("video2", "Logi C920", "0"),
        ("video0", "Laptop Lid", "0"),
        ("video1", "Laptop Lid", "1"),
    ]:
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    assert linux_cameras(tmp_path) == [Camera(0, "Laptop Lid"), Camera(2, "Logi C920")]
    assert linux_cameras(tmp_path / "none") == []
