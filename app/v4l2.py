"""What Linux's video devices say that they can do. Asking neither opens a picture nor turns a light on."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

# struct v4l2_capability of <linux/videodev2.h>: driver, card, bus, version, capabilities, those of this node, reserved.
_LAYOUT = struct.Struct("=16s32s32sIII12x")
_QUERYCAP = 2 << 30 | _LAYOUT.size << 16 | ord("V") << 8  # VIDIOC_QUERYCAP: _IOR('V', 0, struct v4l2_capability)
_CAPTURES = 0x1 | 0x1000  # one plane, several
_HAS_OWN = 0x80000000  # the third number is there: what this node can do, not all nodes of the driver
_LOOPBACK = "v4l2 loopback"


@dataclass(frozen=True, slots=True)
class Capability:
    """What a device node says of itself.

    Attributes:
        driver, card: names of both.
        captures: whether pictures can be had from it. A loopback device that nobody writes to may say no.
    """

    driver: str
    card: str
    captures: bool

    @property
    def virtual(self) -> bool:
        """Whether a program stands behind it, and no camera."""
        return self.driver == _LOOPBACK


def capability_of(node: Path) -> Capability | None:
    """What ``/dev/video0`` or the like says; None where it cannot be asked, for one because it may not be opened."""
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    report = bytearray(_LAYOUT.size)
    try:
        device = os.open(node, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.ioctl(device, _QUERYCAP, report)
        finally:
            os.close(device)
    except OSError:
        return None
    return read_capability(bytes(report))


def read_capability(report: bytes) -> Capability:
    """The answer to VIDIOC_QUERYCAP."""
    driver, card, _, _, of_all, of_node = _LAYOUT.unpack(report)
    can = of_node if of_all & _HAS_OWN else of_all
    return Capability(_text(driver), _text(card), bool(can & _CAPTURES))


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
