"""Photos that are stored as tiles: the grid of a HEIC or AVIF file (ISO/IEC 23008-12), which phones write.

FFmpeg gives each tile as a stream of its own, with the number of the item as its id; PyAV does not say where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.media.boxes import Reader, boxes, find, top_box
from app.media.orientation import IDENTITY, Orientation, mirrored, turned

_MOST_PIXELS = 1 << 28  # of a photo; more is a damaged number


@dataclass(frozen=True, slots=True)
class Grid:
    """A photo of ``rows`` times ``columns`` tiles of one size, cut to its own.

    Attributes:
        tiles: the items in rows from the upper left.
        width, height: of the photo in pixels, before it is turned.
        orientation: how it is to be turned.
    """

    rows: int
    columns: int
    width: int
    height: int
    tiles: tuple[int, ...]
    orientation: Orientation = IDENTITY

    def composed(self, pictures: list[np.ndarray]) -> np.ndarray:
        """The photo of its tiles, each (H, W, 3) uint8, in order. Raises ``ValueError`` where they do not fit."""
        shapes = {picture.shape for picture in pictures}
        if len(pictures) != self.rows * self.columns or len(shapes) != 1:
            raise ValueError("its tiles do not fit together")
        high, wide, _ = shapes.pop()
        if self.height > high * self.rows or self.width > wide * self.columns:
            raise ValueError("its tiles are too small")
        rows = [pictures[row * self.columns : (row + 1) * self.columns] for row in range(self.rows)]
        whole = np.concatenate([np.concatenate(row, axis=1) for row in rows])
        return self.orientation.applied(whole[: self.height, : self.width])


@dataclass(frozen=True, slots=True)
class Photo:
    """What a HEIC or AVIF file says of its picture: the item that is it, and its grid where it has one."""

    item: int
    grid: Grid | None


def read_photo(path: Path) -> Photo | None:
    """The picture that a HEIC or AVIF file is of; None for a file of another kind.

    Raises:
        ValueError: the file is damaged.
        OSError: it cannot be read.
    """
    meta = top_box(path, b"meta")
    if meta is None or len(meta) < 4:
        return None
    meta = memoryview(meta)[4:]
    primary = find(meta, b"pitm")
    if primary is None:
        return None
    reader = Reader.of(primary)
    version, _ = reader.version()
    item = reader.number(4 if version else 2)
    if _kinds(meta).get(item) != b"grid":
        return Photo(item, None)
    return Photo(item, _read_grid(path, meta, item))


def _read_grid(path: Path, meta: memoryview, item: int) -> Grid:
    reader = Reader.of(_content(path, meta, item))
    _, flags = reader.number(1), reader.number(1)
    rows, columns = reader.number(1) + 1, reader.number(1) + 1
    size = 4 if flags & 1 else 2
    width, height = reader.number(size), reader.number(size)
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(f"it would be {width}x{height} pixels")
    return Grid(rows, columns, width, height, _derived_from(meta, item), _orientation(meta, item))


def _kinds(meta: memoryview) -> dict[int, bytes]:
    """The type of each item, as ``hvc1``, ``grid``."""
    found: dict[int, bytes] = {}
    info = find(meta, b"iinf")
    if info is None:
        return found
    for kind, entry in boxes(info[6 if info[0] == 0 else 8 :]):
        reader = Reader.of(entry)
        if kind == b"infe" and (version := reader.version()[0]) >= 2:
            item = reader.number(2 if version == 2 else 4)
            reader.take(2)
            found[item] = bytes(reader.take(4))
    return found


def _derived_from(meta: memoryview, item: int) -> tuple[int, ...]:
    """The items of which ``item`` is made, in order."""
    references = find(meta, b"iref")
    if references is None:
        return ()
    size = 4 if references[0] else 2
    for kind, entry in boxes(references[4:]):
        reader = Reader.of(entry)
        if kind == b"dimg" and reader.number(size) == item:
            return tuple(reader.number(size) for _ in range(reader.number(2)))
    return ()


def _content(path: Path, meta: memoryview, item: int) -> bytes:
    """The bytes of an item, from wherever they lie."""
    location = find(meta, b"iloc")
    if location is None:
        raise ValueError("it does not say where its parts lie")
    reader = Reader.of(location)
    version, _ = reader.version()
    sizes, bases = reader.number(1), reader.number(1)
    index_size = bases & 15 if version else 0
    for _ in range(reader.number(4 if version == 2 else 2)):
        found = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else 0
        reader.take(2)
        base = reader.number(bases >> 4)
        pieces = []
        for _ in range(reader.number(2)):
            reader.take(index_size)
            pieces.append((base + reader.number(sizes >> 4), reader.number(sizes & 15)))
        if found == item:
            return b"".join(_piece(path, meta, method, begin, size) for begin, size in pieces)
    raise ValueError("it does not say where its grid lies")


def _piece(path: Path, meta: memoryview, method: int, begin: int, size: int) -> bytes:
    if size > 1 << 10:
        raise ValueError("its grid is too large")
    if method == 1:
        return bytes((find(meta, b"idat") or memoryview(b""))[begin : begin + size])
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(size)


def _orientation(meta: memoryview, item: int) -> Orientation:
    """The turns and mirrors among the properties of an item, one after the other."""
    known = find(meta, b"iprp", b"ipco")
    properties = list(boxes(known)) if known is not None else []
    orientation = IDENTITY
    for number in _properties(meta, item):
        if not 0 < number <= len(properties):
            continue
        kind, payload = properties[number - 1]
        if kind == b"irot" and payload:
            orientation = orientation.then(turned(payload[0] & 3))
        elif kind == b"imir" and payload:
            orientation = orientation.then(mirrored(upside_down=not payload[0] & 1))
    return orientation


def _properties(meta: memoryview, item: int) -> list[int]:
    """Which of the file's properties, counted from 1, belong to an item, in order."""
    association = find(meta, b"iprp", b"ipma")
    if association is None:
        return []
    reader = Reader.of(association)
    version, flags = reader.version()
    wide = flags & 1
    for _ in range(reader.number(4)):
        found = reader.number(4 if version else 2)
        numbers = [reader.number(2) & 0x7FFF if wide else reader.number(1) & 0x7F for _ in range(reader.number(1))]
        if found == item:
            return numbers
    return []
