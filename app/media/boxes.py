"""The boxes of ISO base media files (MP4, MOV, HEIC, AVIF): what FFmpeg reads of them, but PyAV does not hand on.

The format is ISO/IEC 14496-12: a file is a row of boxes, each with its size, four letters and a payload, which may be a
row of boxes again. Whatever is damaged here raises ``ValueError``; sizes are never believed beyond what is there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 32 << 20  # of a box that is read whole: an index of an hour's film has some megabytes
_PICTURES = b"vide"


@dataclass(frozen=True, slots=True)
class Reader:
    """Numbers from bytes, one after the other. Raises ``ValueError`` where they end too soon."""

    data: memoryview
    _at: list[int]

    @classmethod
    def of(cls, data: bytes | memoryview) -> Reader:
        """From the first byte on."""
        return cls(memoryview(data), [0])

    def number(self, size: int) -> int:
        """The next ``size`` bytes, the highest first; 0 for none."""
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        begin = self._at[0]
        if size < 0 or begin + size > len(self.data):
            raise ValueError("a box ends too soon")
        self._at[0] = begin + size
        return self.data[begin : begin + size]

    def version(self) -> tuple[int, int]:
        """Version and flags, with which many boxes begin."""
        return self.number(1), self.number(3)

    def rest(self) -> memoryview:
        """All that follows."""
        return self.take(len(self.data) - self._at[0])


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """``(four letters, payload)`` of the boxes in a row; what is left over at the end is passed over."""
    view, at = memoryview(data), 0
    while at + 8 <= len(view):
        size, header = int.from_bytes(view[at : at + 4], "big"), 8
        kind = bytes(view[at + 4 : at + 8])
        if size == 1:
            size, header = int.from_bytes(view[at + 8 : at + 16], "big"), 16
        if not size:
            size = len(view) - at
        if size < header or at + size > len(view):
            raise ValueError(f"the box {kind!r} does not fit")
        yield kind, view[at + header : at + size]
        at += size


def find(data: bytes | memoryview, *path: bytes) -> memoryview | None:
    """The payload of the first box at this path, as ``find(moov, b"trak", b"mdia")``; None where there is none."""
    found: memoryview | None = memoryview(data)
    for name in path:
        found = next((payload for kind, payload in boxes(found or b"") if kind == name), None)
        if found is None:
            return None
    return found


def top_box(path: Path, name: bytes) -> bytes | None:
    """The payload of a box at the top of the file; None where it is not there, or the file is of another format.

    Raises:
        ValueError: the box is larger than any honest one, or does not fit into the file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        at = 0
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            header = 8
            if size == 1:
                size, header = int.from_bytes(file.read(8), "big"), 16
            size = size or end - at
            if size < header or not kind.isascii():
                return None
            if kind == name:
                if size > _MOST_BYTES or at + size > end:
                    raise ValueError(f"the box {name!r} does not fit")
                return file.read(size - header)
            at += size
    return None


def picture_codecs(path: Path) -> list[str]:
    """The four letters by which an MP4 or MOV file names the codec of each of its video tracks, as ``avc1``, ``aprn``.

    Raises:
        ValueError, OSError: as ``top_box``.
    """
    moov = top_box(path, b"moov")
    names = []
    for kind, trak in boxes(moov or b""):
        handler = find(trak, b"mdia", b"hdlr") if kind == b"trak" else None
        entries = find(trak, b"mdia", b"minf", b"stbl", b"stsd") if handler and handler[8:12] == _PICTURES else None
        if entries and (entry := next(boxes(entries[8:]), None)):
            names.append(entry[0].decode("latin-1"))
    return names
