"""The room behind the sample clip's character: wall, window light, plant, shelf and lamp. It never moves."""

from __future__ import annotations

import numpy as np

from assets.sample.paint import (
    Colour,
    blurred,
    box,
    curve,
    flat,
    grid,
    lit,
    mask,
    noise,
    oval,
    over,
    ramp,
    strokes,
)

_BOOKS: tuple[Colour, ...] = (
    (0.70, 0.26, 0.22),
    (0.20, 0.36, 0.50),
    (0.88, 0.72, 0.42),
    (0.30, 0.46, 0.36),
    (0.86, 0.84, 0.78),
    (0.48, 0.26, 0.40),
    (0.82, 0.48, 0.26),
    (0.24, 0.26, 0.34),
)


def paint_room(seed: int) -> np.ndarray:
    """The room, stage-sized (H, W, 3) float32 in 0..1, a little out of focus."""
    rng = np.random.default_rng(seed)
    room = _wall(rng)
    room = _shelf(room, rng)
    room = _lamp(room)
    room = _plant(room, rng)
    room = blurred(room, 1.1)
    x, y = grid()
    corner = np.hypot((x - 320) / 400, (y - 230) / 310)
    return np.clip(room * (1.12 - 0.26 * np.clip(corner, 0, 1.4) ** 2)[..., None], 0, 1).astype(np.float32)


def _wall(rng: np.random.Generator) -> np.ndarray:
    x, y = grid()
    wall = ramp((0.80, 0.77, 0.70), (0.55, 0.52, 0.53), x / 760 + y / 1700)
    wall = wall * (1 + noise(rng, (90, 0.010), (14, 0.008), (1.5, 0.010))[..., None])
    # The sun through a window of four panes, lying slantwise on the wall.
    panes = [box(left, top, 88, 92, tilt=34) for top, lean in ((18, 36), (122, 0)) for left in (34 + lean, 136 + lean)]
    sun = mask(*panes, soft=3.0)
    wall = wall * (1 + sun[..., None] * np.array([0.24, 0.19, 0.10], np.float32))
    skirting = mask(box(-5, 440, 650, 60))
    return over(wall, ramp((0.62, 0.54, 0.46), (0.42, 0.36, 0.33), x / 640), skirting)


def _shelf(room: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wood = flat((0.56, 0.38, 0.25)) * (1 + noise(rng, (30, 0.03), (3, 0.03))[..., None])
    for board, books in ((172, 522), (292, 640), (412, 585)):
        shade = mask(box(446, board + 8, 200, 22), soft=7)
        room = over(room, room * 0.62, shade * 0.8)
        room = _row_of_books(room, rng, board, books)
        plank = mask(box(452, board, 196, 11))
        room = over(room, lit(wood, plank, depth=4), plank)
    side = mask(box(446, 84, 11, 420))
    return over(room, lit(wood * 0.92, side, depth=4), side)


def _row_of_books(room: np.ndarray, rng: np.random.Generator, board: float, end: float) -> np.ndarray:
    left = 463.0
    while left < end - 12:
        width, height = rng.uniform(10, 21), rng.uniform(58, 88)
        lean = 7.0 if rng.random() < 0.12 else 0.0
        colour = np.array(_BOOKS[rng.integers(len(_BOOKS))], np.float32) * rng.uniform(0.85, 1.1)
        spine = mask(box(left, board - height, width, height, tilt=-lean))
        room = over(room, room * 0.5, blurred(spine, 3) * 0.5)
        room = over(room, lit(np.broadcast_to(colour, room.shape), spine, depth=width / 2.2), spine)
        for at in (0.16, 0.78):
            band = mask(box(left + 1.5, board - height * (1 - at), width - 3, 3.5, tilt=0))
            room = over(room, (0.90, 0.82, 0.60), band * spine * 0.7)
        left += width + 1.2 + 2 * lean
    return room


def _lamp(room: np.ndarray) -> np.ndarray:
    x, y = grid()
    glow = np.exp(-(((x - 556) / 120) ** 2 + ((y - 66) / 100) ** 2))
    room = room + glow[..., None] * np.array([0.30, 0.20, 0.07], np.float32)
    foot = mask(oval(556, 166, 24, 7), curve([(552, 100), (560, 100), (559, 160), (553, 160)]))
    room = over(room, lit((0.62, 0.50, 0.36), foot, depth=6, gloss=0.4), foot)
    shade = mask(np.array([(532, 34), (580, 34), (600, 104), (512, 104)], float), soft=0.5)
    bright = ramp((1.0, 0.94, 0.74), (0.98, 0.72, 0.42), np.hypot((x - 556) / 50, (y - 82) / 62) ** 2)
    return over(room, bright, shade)


def _plant(room: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pot = mask(curve([(44, 392), (128, 392), (118, 478), (86, 492), (54, 478)], steps=8))
    x, y = grid()
    for stem in range(13):
        angle = np.radians(-90 + (stem - 6) * 15 + rng.uniform(-5, 5))
        reach = rng.uniform(92, 150) * (1 - 0.045 * abs(stem - 6))
        tip = np.array([86 + reach * np.cos(angle), 388 + reach * 1.15 * np.sin(angle)])
        root = np.array([86 + (stem - 6) * 4, 390])
        middle = (root + tip) / 2 + (0, -12 - rng.uniform(0, 10))
        side = np.array([-(tip - root)[1], (tip - root)[0]]) / np.linalg.norm(tip - root)
        half = rng.uniform(9, 14)
        tips = [root, middle + half * side, tip, middle - half * side]
        leaf = mask(curve([(float(px), float(py)) for px, py in tips], steps=16))
        vein = strokes([curve([tuple(root), tuple(middle), tuple(tip)], closed=False)], 1.2)
        green = ramp((0.16, 0.36, 0.20), (0.46, 0.62, 0.26), (430 - y) / 240 + rng.uniform(-0.15, 0.15))
        room = over(room, room * 0.55, blurred(leaf, 5) * 0.35)
        room = over(room, lit(green, leaf, depth=9, gloss=0.12, shadow=(0.36, 0.42, 0.46)), leaf)
        room = over(room, green * 1.35, vein * leaf * 0.5)
    clay = ramp((0.80, 0.46, 0.33), (0.62, 0.32, 0.24), x / 150)
    room = over(room, lit(clay, pot, depth=26, gloss=0.08), pot)
    rim = mask(curve([(40, 388), (86, 383), (132, 388), (130, 402), (86, 408), (42, 402)], steps=8))
    return over(room, lit(clay * 1.05, rim, depth=6, gloss=0.1), rim)
