"""Contact sheets: photo, teacher, one step, four steps; a row of pictures per style."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from assets.training.autoencoder import load_autoencoder
from assets.training.latents import decode, encode
from assets.training.prompts import STYLE_IDS
from assets.training.schedule import stylise
from assets.training.store import PictureStore
from assets.training.text import encode_texts, load_text
from assets.training.vocabulary import STYLES

log = logging.getLogger(__name__)

TILE = 160


def _faces_first(store: PictureStore, count: int) -> list[int]:
    """`count` held-out rows: generated people and rooms before shirts and groceries, one row a source."""
    order = ("frames_mit", "comfy_mit", "coco_cc", "clothing_cc0", "lomiri_ccby")
    rows = range(store.train_count, store.count)

    def rank(row: int) -> int:
        folder = store.index["photos"][row].split("/")[0]
        return order.index(folder) if folder in order else len(order)

    seen: set[str] = set()
    chosen: list[int] = []
    for row in sorted(rows, key=rank):
        source = store.index["sources"][row]
        if source not in seen:
            seen.add(source)
            chosen.append(row)
    return chosen[:count]


@torch.no_grad()
def draw_sheet(run: Path, unet: UNet2DConditionModel, path: Path, count: int = 4) -> None:
    """Write a sheet of `count` held-out photos in every style, as `unet` paints them, to `path`."""
    store, model = PictureStore(run), load_autoencoder(run)
    tokenizer, encoder = load_text(run)
    rows = _faces_first(store, count)
    photos = np.stack([store.pictures("photo")[row] for row in rows])
    latents = encode(model, photos)
    lines = []
    for style in STYLE_IDS:
        states = encode_texts(tokenizer, encoder, [STYLES[style].prompt]).repeat(count, 1, 1)
        teacher = np.stack([store.pictures(style)[row] for row in rows])
        once, four = (decode(model, stylise(unet, latents, states, steps=steps)) for steps in (1, 4))
        cells = [cell for group in zip(photos, teacher, once, four, strict=True) for cell in group]
        lines.append(np.hstack([cv2.resize(cell, (TILE, TILE), interpolation=cv2.INTER_AREA) for cell in cells]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(lines), cv2.COLOR_RGB2BGR))
    log.info("sheet %s", path.name)
