"""Makes the pictures to learn from: every photo in every teacher's hand, at 256x256, once."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from assets.training.photos import SIZE, Photo, find_photos, load_photo, split_photos
from assets.training.store import PictureStore, open_array
from assets.training.teachers import Teachers, style_names

log = logging.getLogger(__name__)

CHUNK = 16
SAME_PICTURE = 0.985  # correlation of 16x16 grey thumbnails


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (256,) unit vector of a 16x16 grey picture without its mean."""
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (16, 16), interpolation=cv2.INTER_AREA).astype(
        np.float64
    )
    flat = grey.ravel() - grey.mean()
    return flat / max(1e-6, float(np.linalg.norm(flat)))


def _without_twins(train: list[Photo], held: list[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Leave out photos that look like one kept already: all twins of held-out photos, then twins within training.

    Several sources may show the same original (before and after an edit); names do not tell.
    """
    held_views = [_thumbnail(load_photo(photo.path)) for photo in held]
    kept_held, kept_train = list(held), []
    views = list(held_views)
    for photo in train:
        view = _thumbnail(load_photo(photo.path))
        if views and float((np.stack(views) @ view).max()) > SAME_PICTURE:
            continue
        views.append(view)
        kept_train.append(photo)
    log.info("%d photos left out that look like another", len(train) - len(kept_train))
    return kept_train, kept_held


def index_photos(photos: Path, run: Path, most: int) -> PictureStore:
    """Find, split and copy the photos into the run folder, unless that is done already."""
    folder = run / "pictures"
    if (folder / "index.json").is_file():
        return PictureStore(run)
    split = split_photos(find_photos(photos))
    if len(split.train) < 10 or not split.held_out:
        raise ValueError(f"only {len(split.train)} photos to train on in {photos}: give a folder with more pictures")
    train, held = _without_twins(split.train, split.held_out)
    chosen = train[:most] + held
    array = open_array(folder / "photo.npy", (len(chosen), SIZE, SIZE, 3))
    for row, photo in enumerate(chosen):
        array[row] = load_photo(photo.path)
    np.save(folder / "photo.done.npy", np.ones(len(chosen), bool))
    index = {
        "train": len(train[:most]),
        "photos": [str(photo.path.relative_to(photos)) for photo in chosen],
        "sources": [photo.source for photo in chosen],
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return PictureStore(run)


def _chunks(store: PictureStore, styles: list[str], done: dict[str, np.ndarray]) -> list[dict[str, list[int]]]:
    """What is missing, style -> rows, in pieces of CHUNK photos; held-out photos first, as sample sheets need them."""
    order = [*range(store.train_count, store.count), *range(store.train_count)]
    pieces: list[dict[str, list[int]]] = []
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        piece: dict[str, list[int]] = {}
        for style in styles:
            missing = [row for row in rows if not done[style][row]]
            if missing:
                piece[style] = missing
        if piece:
            pieces.append(piece)
    return pieces


def _draw(run: Path, todo: dict[str, list[int]]) -> dict[str, list[int]]:
    """One process' share: the teachers' pictures of the rows named, by style."""
    cv2.setNumThreads(1)
    store = PictureStore(run)
    teachers = Teachers(threads=1)
    photos = store.pictures("photo")
    for style, rows in todo.items():
        array = store.pictures(style)
        for row in rows:
            array[row] = teachers.draw(style, photos[row])
    return todo


def prepare(photos: Path, run: Path, most: int, styles: list[str] | None = None, processes: int = 2) -> None:
    """Fill `run/pictures`; what is there already is kept. `most` training photos at most."""
    store = index_photos(photos, run, most)
    wanted = [style for style in (styles or style_names()) if style != "photo"]
    done = {style: store.done(style) for style in wanted}
    for style in wanted:
        open_array(store.folder / f"{style}.npy", (store.count, SIZE, SIZE, 3))
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(_draw, run, todo) for todo in _chunks(store, wanted, done)]
        for job in track(jobs, description="teachers"):
            for style, rows in job.result().items():
                done[style][rows] = True
                np.save(store.folder / f"{style}.done.npy", done[style])
    log.info("%d photos (%d to train on) in %d styles", store.count, store.train_count, len(wanted))
