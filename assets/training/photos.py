"""Photos on disk: find them, group them by source, split them, and cut frames out of clips.

A *source* is what was photographed or generated once: frames of one clip, or crops of one wallpaper, share a source.
A source lies entirely in training or entirely in the held-out set.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

log = logging.getLogger(__name__)

SIZE = 256
HELD_OUT_SHARE = 0.10
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
CLIPS = {".mp4", ".webm", ".mov", ".mkv"}
# The steadiness test's clip, under each name it has in the data. Never a training picture.
NEVER_TRAINED = ("talking_woman_office", "api_heygen_avatar_video")
# Pictures taken from a folder at most: webcams see people and rooms, hardly ever a shelf of yoghurt.
FOLDER_CAPS = {"grocery_mit": 120, "clothing_cc0": 420}


@dataclass(frozen=True)
class Photo:
    """One picture file; `source` names what it was cut from, `folder` the stratum of the split."""

    path: Path
    folder: str
    source: str


@dataclass(frozen=True)
class Split:
    """Training and held-out photos; no source is in both."""

    train: list[Photo]
    held_out: list[Photo]


def stable_hash(text: str) -> int:
    """A 64-bit number that depends on nothing but `text` (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _source_of(path: Path, table: dict[str, str]) -> str:
    """The name that all cuts of one original share."""
    stem = table.get(path.stem.split("_")[0], path.stem) if table else path.stem
    stem = stem.removesuffix(".webp")
    stem = re.sub(r"__f\d+$", "", stem)
    if table or "__f" in path.stem:
        return re.sub(r"[-_]\d+$", "", stem)  # "-1" and "-2" are before and after of one scene
    return re.sub(r"_(\d|full)$", "", stem)


def _sources_table(folder: Path) -> dict[str, str]:
    """Index -> original file of a folder with a SOURCES.tsv (index, package, file); else empty."""
    table = folder / "SOURCES.tsv"
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8") as lines:
        return {row[0]: row[2] for row in csv.reader(lines, delimiter="\t") if len(row) >= 3}


def find_photos(root: Path) -> list[Photo]:
    """All pictures under `root`, sorted; the first folder below `root` is the stratum."""
    photos: list[Photo] = []
    tables: dict[Path, dict[str, str]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in PICTURES:
            continue
        table = tables.setdefault(path.parent, _sources_table(path.parent))
        relative = path.relative_to(root)
        folder = relative.parts[0] if len(relative.parts) > 1 else "."
        photos.append(Photo(path, folder, _source_of(path, table)))
    return photos


def split_photos(photos: list[Photo], share: float = HELD_OUT_SHARE) -> Split:
    """Hold out about `share` of each folder, by whole sources, the same ones on every machine.

    Folders that share a source (stills and frames of one clip) agree, as the choice hangs on the source's name alone.
    """
    train: list[Photo] = []
    held: list[Photo] = []
    for photo in photos:
        barred = any(name in photo.source for name in NEVER_TRAINED)
        chance = stable_hash("held-out/" + photo.source) / 2**64
        (held if barred or chance < share else train).append(photo)
    return Split(_capped(train), _capped(held, share))


def _capped(photos: list[Photo], share: float = 1.0) -> list[Photo]:
    """Apply FOLDER_CAPS and shuffle by hash, so that any leading part is a fair sample."""
    ordered = sorted(photos, key=lambda photo: stable_hash(f"{photo.folder}/{photo.path.name}"))
    counts: dict[str, int] = {}
    kept: list[Photo] = []
    for photo in ordered:
        counts[photo.folder] = counts.get(photo.folder, 0) + 1
        cap = FOLDER_CAPS.get(photo.folder)
        if cap is None or counts[photo.folder] <= max(1, round(cap * share)):
            kept.append(photo)
    return kept


def load_photo(path: Path, size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8 RGB, the centre square of the picture at `path`."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"not a picture: {path.name}")
    return centre_square(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), size)


def centre_square(picture: np.ndarray, size: int = SIZE) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side]
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def clip_frames(path: Path, count: int) -> Iterator[np.ndarray]:
    """`count` frames spread over a clip, each (H, W, 3) uint8 RGB."""
    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, max(total - 1, 0), count).astype(int).tolist())
    for index in range(total):
        good, frame = capture.read()
        if not good:
            break
        if index in wanted:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    capture.release()


def webp_frames(data: bytes, count: int) -> list[np.ndarray]:
    """`count` frames spread over an animated webp, each (H, W, 3) uint8 RGB; none if it is a still."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data))
    total = getattr(picture, "n_frames", 1)
    if total < 2:
        return []
    frames: list[np.ndarray] = []
    for index in np.linspace(0, total - 1, count).astype(int).tolist():
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGB")))
    return frames


def cut_frames(inputs: list[Path], out: Path, count: int) -> int:
    """Write `count` frames of every clip, and of every animated webp in a wheel or zip, to `out`; returns how many."""
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in inputs:
        if path.suffix.lower() in CLIPS:
            members: list[tuple[str, list[np.ndarray]]] = [(path.stem, list(clip_frames(path, count)))]
        else:
            archive = zipfile.ZipFile(path)
            names = [name for name in archive.namelist() if name.endswith(".webp")]
            members = [(Path(name).stem, webp_frames(archive.read(name), count)) for name in names]
        for stem, frames in members:
            for index, frame in enumerate(frames):
                square = cv2.cvtColor(centre_square(frame), cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(out / f"{stem}__f{index}.jpg"), square, [cv2.IMWRITE_JPEG_QUALITY, 95])
                written += 1
    log.info("%d frames written", written)
    return written
