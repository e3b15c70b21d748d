"""Cameras: scripted devices behind real threads, for what no test machine has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.cameras import Camera, may_open, users_of
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
        opens: whether it can be opened.
        refuses: properties that cannot be set.
    """

    def __init__(
        self,
        pictures: int = 1_000_000,
        after: Callable[[], object] | None = None,
        opens: bool = True,
        refuses: Sequence[int] = (),
    ) -> None:
        self.released = threading.Event()
        self.reading = threading.Event()
        self.taken = threading.Semaphore(0)
        self.asked: dict[int, float] = {}
        self._pictures, self._after, self._opens, self._refuses = pictures, after, opens, refuses
        made.append(self)

    def isOpened(self) -> bool:
        return self._opens

    def read(self) -> tuple[bool, np.ndarray]:
        self.reading.set()
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
        return propId not in self._refuses

    def release(self) -> None:
        self.released.set()


@pytest.fixture(autouse=True)
def every_device_is_released() -> Iterator[None]:
    yield
    opened = [device for device in made if device.isOpened()]
    made.clear()
    assert all(device.released.is_set() for device in opened)


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
    assert first.released.is_set()
    with pytest.raises(SourceStalled, match="No camera has 'logi'"):
        source.open()
    two_cameras.append(Camera(3, "Logi C920"))
    second.taken.release()
    source.open()
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


def test_close_never_waits_for_a_driver_that_hangs_nor_pulls_the_device_away_from_it():
    never = threading.Event()
    device = ScriptedDevice(0, after=lambda: never.wait(30))
    source = CameraSource(0, connect=lambda _: device)
    source.open()
    answers = []
    reader = threading.Thread(target=lambda: answers.append(source.read()))
    reader.start()
    assert device.reading.wait(30)
    source.close()
    assert not device.released.is_set()
    assert answers == []
    assert "No picture comes from camera 0" in source.why_silent()
    never.set()
    reader.join(30)
    assert answers == [None]
    assert device.released.is_set()


def test_close_never_waits_for_a_driver_that_is_slow_to_open():
    opening, go_on = threading.Event(), threading.Event()
    device = ScriptedDevice()

    def connect(_: int) -> ScriptedDevice:
        opening.set()
        assert go_on.wait(30)
        return device

    source = CameraSource(0, connect=connect)
    opener = threading.Thread(target=source.open)
    opener.start()
    assert opening.wait(30)
    source.close()
    go_on.set()
    opener.join(30)
    assert device.released.is_set()
    assert source.read() is None


def test_the_same_camera_is_opened_once_its_driver_has_let_go_of_it():
    """As after a pause: the driver is slow to let go, and a device that is in use cannot be opened."""
    first = ScriptedDevice()
    before = CameraSource(0, connect=lambda _: first)
    before.open()
    waiting, opened = threading.Event(), threading.Event()

    def connect(_: int) -> ScriptedDevice:
        assert first.released.is_set()
        opened.set()
        return ScriptedDevice()

    after = CameraSource(0, connect=connect)

    def open_after() -> None:
        waiting.set()
        after.open()

    opener = threading.Thread(target=open_after)
    opener.start()
    assert waiting.wait(30)
    assert not opened.wait(0.05)
    before.close()
    opener.join(30)
    assert opened.is_set()
    after.close()


def test_a_camera_whose_driver_never_lets_go_is_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(camera_module, "_HANDS_SECONDS", 0.01)
    before = CameraSource(0, connect=lambda _: ScriptedDevice())
    before.open()
    with pytest.raises(SourceStalled, match=r"Laptop Lid\) was not let go of by its driver yet"):
        CameraSource(0, connect=lambda _: ScriptedDevice()).open()
    before.close()


def test_a_large_picture_is_asked_for_compressed_and_all_at_thirty_a_second():
    small, large = ScriptedDevice(), ScriptedDevice()
    large.taken.release()
    devices = iter((small, large))
    for size in ((640, 480), (1280, 720)):
        source = CameraSource(0, size=size, connect=lambda _: next(devices))
        source.open()
        source.close()
    assert list(small.asked) == [cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert list(large.asked) == [cv2.CAP_PROP_FOURCC, *small.asked], "the format first: sizes depend on it"
    assert large.asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert large.asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert large.asked[cv2.CAP_PROP_FPS] == 30


def give_up() -> None:
    raise cv2.error("this format cannot be had")


@pytest.mark.parametrize("after", [None, give_up])
def test_a_camera_that_gives_nothing_compressed_is_opened_once_more_plainly(after: Callable[[], object] | None):
    choked, plain = ScriptedDevice(0, after=after), ScriptedDevice()
    devices = iter((choked, plain))
    source = CameraSource(0, size=(1920, 1080), connect=lambda _: next(devices))
    source.open()
    plain.taken.release()
    assert source.read() is not None
    source.close()
    assert choked.released.is_set()
    assert cv2.CAP_PROP_FOURCC not in plain.asked
    assert plain.asked[cv2.CAP_PROP_FRAME_WIDTH] == 1920


def test_a_driver_that_refuses_compression_is_asked_for_the_size_all_the_same():
    device = ScriptedDevice(refuses=[cv2.CAP_PROP_FOURCC])
    source = CameraSource(0, size=(1280, 720), connect=lambda _: device)
    source.open()
    source.close()
    assert device.asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert not device.reading.is_set(), "no picture is thrown away"


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
