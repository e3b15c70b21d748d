"""Which cameras there are, from what each system reports; the reports of Windows and macOS are recorded ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from av.device import DeviceInfo

from app import cameras as module
from app.cameras import (
    CAMERA_SIZES,
    Camera,
    avfoundation_cameras,
    cameras,
    directshow_cameras,
    first_camera,
    linux_cameras,
    profiler_cameras,
)
from app.v4l2 import Capability, capability_of, read_capability


def listed(name: str, description: str, *kinds: str) -> DeviceInfo:
    return DeviceInfo(name, description, False, list(kinds))


# As FFmpeg lists them: the video inputs, then the sound inputs; OBS's camera tells no type while nothing sends to it.
DIRECTSHOW = [
    listed(r"@device_pnp_\\?\usb#vid_04f2", "Integrated Camera", "video"),
    listed(r"@device_sw_{860BB310}\{A3FCE0F5}", "OBS Virtual Camera"),
    listed(r"@device_pnp_\\?\usb#vid_1bcf", "USB2.0 HD UVC WebCam"),
    listed(r"@device_pnp_\\?\usb#vid_07ca", "Live Gamer Portable", "video", "audio"),
    listed(r"@device_cm_{33D9A762}\wave_{1}", "Microphone (Realtek(R) Audio)", "audio"),
]
AVFOUNDATION = [
    listed("0", "FaceTime HD Camera", "video"),
    listed("1", "OBS Virtual Camera", "video"),
    listed("2", "Capture screen 0", "video"),
    listed("3", "Capture screen 1", "video"),
    listed("0", "MacBook Pro Microphone", "audio"),
]
PROFILER = json.dumps(
    {
        "SPCameraDataType": [
            {"_name": "FaceTime HD Camera", "spcamera_model-id": "Apple", "spcamera_unique-id": "EAB7A68F-EC2B-4487"},
            {"_name": "Iris's iPhone", "spcamera_model-id": "iPhone15,3", "spcamera_unique-id": "D9B9A68F-0000"},
            {"_name": "C920", "spcamera_model-id": "UVC", "spcamera_unique-id": "0x11400001d6c0103"},
        ]
    }
)


def test_windows_numbers_every_video_input_and_leaves_out_sound():
    assert directshow_cameras(DIRECTSHOW) == [
        Camera(0, "Integrated Camera"),
        Camera(1, "OBS Virtual Camera", virtual=True),
        Camera(2, "USB2.0 HD UVC WebCam"),
        Camera(3, "Live Gamer Portable"),
    ]


def test_macos_leaves_out_the_screens():
    assert avfoundation_cameras(AVFOUNDATION) == [
        Camera(0, "FaceTime HD Camera"),
        Camera(1, "OBS Virtual Camera", virtual=True),
    ]
    assert avfoundation_cameras(AVFOUNDATION[2:]) == [], "a machine without a camera"


def test_macos_numbers_cameras_by_their_identifiers():
    assert profiler_cameras(PROFILER) == [
        Camera(0, "C920"),
        Camera(1, "Iris's iPhone"),
        Camera(2, "FaceTime HD Camera"),
    ]


@pytest.mark.parametrize(
    "report", ["", "{}", "[]", '{"SPCameraDataType": [{}]}', '{"SPCameraDataType": 5}', "[" * 9999]
)
def test_a_report_that_is_none_lists_nothing(report: str):
    assert profiler_cameras(report) == []


def answer(driver: str, card: str, of_all: int, of_node: int) -> bytes:
    """What VIDIOC_QUERYCAP fills in."""
    return struct.pack(
        "=16s32s32s6I", driver.encode(), card.encode(), b"usb-0000:00:14.0-1", 0x60800, of_all, of_node, 0, 0, 0
    )


@pytest.mark.parametrize(
    ("report", "captures"),
    [
        (answer("uvcvideo", "Laptop Lid", 0x84A00001, 0x04200001), True),
        (answer("uvcvideo", "Laptop Lid", 0x84A00001, 0x04A00000), False),  # its node of metadata
        (answer("v4l2 loopback", "Vitrail", 0x85208002, 0x05208002), False),  # nobody writes to it yet
        (answer("v4l2 loopback", "OBS", 0x85208001, 0x05208001), True),
        (answer("v4l2 loopback", "Both", 0x85208003, 0x05208003), True),
        (answer("bcm2835-isp", "isp", 0x84201000, 0x04201000), True),  # of several planes
        (answer("old", "before 3.4", 0x05000001, 0), True),
    ],
)
def test_a_device_says_whether_it_gives_pictures(report: bytes, captures: bool):
    assert read_capability(report).captures == captures
    assert len(report) == 104


def test_a_device_says_who_it_is():
    said = read_capability(answer("v4l2 loopback", "OBS Kamera ä", 0x85208001, 0x05208001))
    assert (said.driver, said.card, said.virtual) == ("v4l2 loopback", "OBS Kamera ä", True)
    assert not read_capability(answer("uvcvideo", "Lid", 0x84A00001, 0x04200001)).virtual


def test_a_file_that_is_no_device_says_nothing(tmp_path: Path):
    (tmp_path / "video0").touch()
    assert capability_of(tmp_path / "video0") is None
    assert capability_of(tmp_path / "video1") is None


NODES = {
    "video0": ("Vitrail", "0", Capability("v4l2 loopback", "Vitrail", captures=True)),
    "video1": ("OBS Virtual Camera", "0", Capability("v4l2 loopback", "OBS Virtual Camera", captures=True)),
    "video2": ("Laptop Lid", "0", Capability("uvcvideo", "Laptop Lid", captures=True)),
    "video3": ("Laptop Lid", "1", Capability("uvcvideo", "Laptop Lid", captures=False)),
    "video4": ("Decoder", "0", Capability("decoder", "Decoder", captures=False)),
    "video7": ("Logi C920", "0", None),  # it may not be opened, as another program has it
    "video10": ("Later", "0", Capability("uvcvideo", "Later", captures=True)),
}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for node, (name, index, _) in NODES.items():
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    return tmp_path


def ask(node: Path) -> Capability | None:
    return NODES[node.name][2]


def test_linux_lists_what_gives_pictures_but_not_our_own_output(sysfs: Path):
    assert linux_cameras(sysfs, ask=ask) == [
        Camera(1, "OBS Virtual Camera", virtual=True),
        Camera(2, "Laptop Lid"),
        Camera(7, "Logi C920"),
        Camera(10, "Later"),
    ]
    assert linux_cameras(sysfs / "none", ask=ask) == []


def test_linux_leaves_out_the_device_that_is_written_to_whatever_its_label(sysfs: Path):
    found = linux_cameras(sysfs, ask=ask, ours={"/dev/video1"})
    assert [camera.index for camera in found] == [2, 7, 10]


def test_windows_and_macos_leave_out_the_camera_that_is_written_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setattr(module.av, "enumerate_input_devices", lambda kind: {"dshow": DIRECTSHOW}[kind])
    monkeypatch.setattr(module, "our_outputs", {"OBS Virtual Camera"})
    assert [camera.index for camera in cameras()] == [0, 2, 3]


def test_a_virtual_camera_is_never_begun_with(monkeypatch: pytest.MonkeyPatch):
    found = [Camera(0, "OBS Virtual Camera", virtual=True), Camera(1, "Lid")]
    monkeypatch.setattr(module, "cameras", lambda: found)
    assert first_camera() == Camera(1, "Lid")
    del found[1]
    assert first_camera() is None


def test_the_sizes_begin_with_the_one_that_every_camera_has():
    assert CAMERA_SIZES[0] == (640, 480)
    assert len(set(CAMERA_SIZES)) == len(CAMERA_SIZES)
