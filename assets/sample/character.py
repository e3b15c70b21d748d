"""The sample clip's character, as sprites that can be moved one against the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assets.sample.paint import (
    Colour,
    Point,
    Sprite,
    blurred,
    curve,
    flat,
    grid,
    lit,
    mask,
    noise,
    oval,
    over,
    ramp,
    sprite,
    strokes,
)

_SKIN: Colour = (0.97, 0.74, 0.61)
_SKIN_SHADOW: Colour = (0.58, 0.40, 0.36)
_HAIR: Colour = (0.40, 0.22, 0.13)
_SWEATER: Colour = (0.17, 0.50, 0.51)
EYES: Sequence[float] = (284, 356)  # x of the eyes' middles
EYE_Y = 212.0

# fmt: off
_FACE_POINTS = (
    (320, 112), (362, 120), (392, 152), (400, 200), (394, 250), (374, 290), (342, 314),
    (320, 318), (298, 314), (266, 290), (246, 250), (240, 200), (248, 152), (278, 120),
)
_BODY_POINTS = (
    (320, 374), (372, 366), (430, 384), (474, 420), (492, 500), (490, 560),
    (320, 570), (150, 560), (148, 500), (166, 420), (210, 384), (268, 366),
)
_HAIR_POINTS = (
    (320, 92), (384, 102), (422, 150), (432, 220), (436, 300), (420, 352), (384, 366),
    (320, 352), (256, 366), (220, 352), (204, 300), (208, 220), (218, 150), (256, 102),
)
_FRINGE_POINTS = (
    (320, 77), (362, 82), (404, 108), (428, 166), (432, 232), (414, 262), (400, 200), (380, 164), (346, 150),
    (326, 138), (302, 160), (264, 182), (243, 202), (230, 262), (208, 232), (213, 166), (238, 106), (280, 81),
)
# fmt: on
_FACE = curve(_FACE_POINTS)


def paint_character(seed: int) -> dict[str, Sprite]:
    """Every part of the character by name, painted where it is at rest."""
    rng = np.random.default_rng(seed)
    strands = noise(rng, (1.2, 0.05), (5, 0.06))
    return (
        {"hair behind": _hair_behind(rng, strands), "body": _body(rng), "neck": _neck(rng)}
        | {"head": _head(rng)}
        | _eyes()
        | _mouth()
        | {"brow left": _brow(EYES[0], -1), "brow right": _brow(EYES[1], 1)}
        | {"glasses": _glasses(), "fringe": _fringe(rng, strands)}
        | {"arm": _arm(rng), "hand": _hand(rng)}
    )


def _skin(rng: np.random.Generator) -> np.ndarray:
    return flat(_SKIN) * (1 + noise(rng, (26, 0.015), (3, 0.018), (1, 0.012))[..., None])


def _head(rng: np.random.Generator) -> Sprite:
    x, y = grid()
    ears = [
        curve([(px, 196), (px + s * 15, 202), (px + s * 14, 228), (px + s * 3, 248)]) for px, s in ((243, -1), (397, 1))
    ]
    ear = mask(*ears)
    face = mask(_FACE)
    skin = _skin(rng)
    for middle in (272, 368):  # cheeks
        blush = np.exp(-(((x - middle) / 24) ** 2 + ((y - 258) / 17) ** 2))
        skin = skin + blush[..., None] * np.array([0.05, -0.085, -0.075], np.float32)
    freckles = [oval(float(fx), float(fy), 0.9, 0.8) for fx, fy in _freckle_places(rng)]
    skin = over(skin, skin * (0.86, 0.76, 0.70), mask(*freckles, soft=0.3) * 0.8)
    # Sockets of the eyes, bridge and tip of the nose, and the chin, as heights on the rounded face.
    sockets = sum(np.exp(-(((x - at) / 27) ** 2 + ((y - 210) / 17) ** 2)) for at in EYES)
    bridge = np.exp(-(((x - 320) / 9) ** 2)) * np.clip((y - 196) / 50, 0, 1) * np.clip((264 - y) / 14, 0, 1)
    tip = np.exp(-(((x - 320) / 13) ** 2 + ((y - 252) / 11) ** 2))
    chin = np.exp(-(((x - 320) / 26) ** 2 + ((y - 304) / 12) ** 2))
    relief = -5.0 * sockets + blurred(4.5 * bridge, 1.5) + 7.0 * tip + 3.0 * chin
    head = lit(skin * 0.93, ear, depth=8, shadow=_SKIN_SHADOW)
    head = over(head, skin * 0.55, mask(*(oval(px, 222, 4, 11) for px in (238, 402)), soft=2) * ear * 0.6)
    head = over(head, lit(skin, face, depth=74, shadow=_SKIN_SHADOW, gloss=0.10, relief=relief), face)
    # The fringe's shadow on the forehead, the nostrils, and the crease under the nose.
    head = over(head, head * (0.66, 0.56, 0.54), mask(np.add(curve(_FRINGE_POINTS), (3, 8)), soft=4) * face * 0.7)
    nostrils = mask(oval(312, 259, 3.4, 2.0, -18), oval(328, 259, 3.4, 2.0, 18), soft=0.9)
    head = over(head, (0.46, 0.22, 0.18), nostrils * 0.75)
    under = mask(oval(322, 266, 12, 3), soft=2.5)
    head = over(head, head * 0.78, under * 0.6)
    return sprite(head, np.maximum(face, ear))


def _freckle_places(rng: np.random.Generator) -> np.ndarray:
    sides = np.where(rng.random(34) < 0.5, 276, 364)
    return np.stack([sides + rng.normal(0, 17, 34), 248 + rng.normal(0, 8, 34)], axis=1)


def _neck(rng: np.random.Generator) -> Sprite:
    cover = mask(curve([(286, 280), (354, 280), (356, 350), (384, 372), (320, 402), (256, 372), (284, 350)]))
    neck = lit(_skin(rng), cover, depth=34, shadow=_SKIN_SHADOW)
    shade = mask(np.add(_FACE, (6, 22)), soft=7)
    return sprite(over(neck, neck * (0.56, 0.44, 0.42), shade * 0.85), cover)


def _body(rng: np.random.Generator) -> Sprite:
    x, y = grid()
    outline = curve(_BODY_POINTS)
    cover = mask(outline)
    knit = noise(rng, (40, 0.03), (2, 0.04))
    ribs = 0.5 * np.sin(x * 1.9 + 0.6 * np.sin(y * 0.8))
    folds = 4.0 * np.exp(-(((x - 214 - 0.35 * (y - 400)) / 9) ** 2)) + 4.0 * np.exp(
        -(((x - 428 + 0.3 * (y - 400)) / 9) ** 2)
    )
    wool = flat(_SWEATER) * (1 + knit[..., None])
    across = y + 0.0007 * (x - 320) ** 2
    for stripe in (428, 462):
        wool = over(wool, (0.93, 0.86, 0.70), np.clip(6.5 - np.abs(across - stripe), 0, 1))
    body = lit(wool, cover, depth=52, relief=0.25 * ribs + blurred(folds, 1.5))
    collar = mask(
        curve([(262, 366), (280, 352), (320, 386), (360, 352), (378, 366), (352, 392), (320, 402), (288, 392)])
    )
    band = lit(flat(_SWEATER) * 0.86, collar, depth=9, relief=0.5 * np.sin(x * 1.4))
    body = over(body, body * 0.6, blurred(collar, 4) * cover * 0.7)
    return sprite(over(body, band, collar), np.maximum(cover, collar))


def _hair_behind(rng: np.random.Generator, strands: np.ndarray) -> Sprite:
    return _hair(curve(_HAIR_POINTS), rng, strands, depth=48, dark=0.72)


def _fringe(rng: np.random.Generator, strands: np.ndarray) -> Sprite:
    return _hair(curve(_FRINGE_POINTS), rng, strands, depth=34, dark=1.0)


def _hair(outline: np.ndarray, rng: np.random.Generator, strands: np.ndarray, *, depth: float, dark: float) -> Sprite:
    """A body of hair with single strands that run from the parting down the sides."""
    cover = mask(outline)
    painted = flat(_HAIR) * dark * (1 + strands[..., None])
    for colour, count in (((0.20, 0.10, 0.06), 150), ((0.60, 0.37, 0.22), 130), ((0.47, 0.28, 0.17), 150)):
        lines = [_strand(rng) for _ in range(count)]
        painted = over(painted, np.array(colour, np.float32) * dark, strokes(lines, 0.9, soft=0.4) * 0.55)
    return sprite(lit(painted, cover, depth=depth, gloss=0.16, shadow=(0.42, 0.36, 0.40)), cover)


def _strand(rng: np.random.Generator) -> np.ndarray:
    reach = rng.uniform(-1, 1)
    side = np.sign(reach) * abs(reach) ** 0.7
    parting: Point = (322 + 4 * side, 76 + rng.uniform(0, 14))
    wave = rng.uniform(-6, 6)
    crown = (322 + side * 92, 84 + 34 * abs(side) + rng.uniform(-6, 30))
    down = (322 + side * 112 + wave, 230 + rng.uniform(-20, 20))
    return curve([parting, crown, down, (322 + side * 106 - wave, 372)], closed=False)


def _eyes() -> dict[str, Sprite]:
    parts: dict[str, Sprite] = {}
    for side, middle in zip(("left", "right"), EYES, strict=True):
        almond = mask(_almond(middle))
        x, y = grid()
        ball = ramp((0.72, 0.71, 0.74), (0.98, 0.97, 0.96), (y - EYE_Y + 12) / 12)
        parts[f"eye {side}"] = sprite(ball, almond)
        iris = mask(oval(middle, EYE_Y, 9.4, 9.8))
        away = np.hypot(x - middle, y - EYE_Y)
        colour = ramp((0.46, 0.60, 0.40), (0.14, 0.25, 0.17), np.abs(away - 5) / 5)
        colour = over(colour, (0.03, 0.03, 0.04), mask(oval(middle, EYE_Y, 4.6, 4.8), soft=0.3))
        colour = over(
            colour,
            (1, 1, 1),
            mask(oval(middle - 3.4, EYE_Y - 3.8, 2.5, 2.7), oval(middle + 3, EYE_Y + 3.4, 1.2, 1.2)),
        )
        colour = colour * np.clip(0.62 + (y - EYE_Y + 10) / 14, 0.62, 1)[..., None]  # the upper lid's shadow
        parts[f"iris {side}"] = sprite(colour, iris)
        lid = mask(_almond(middle, grow=1.5))
        skin = lit(np.multiply(_SKIN, 0.93), lid, depth=14, shadow=_SKIN_SHADOW)
        parts[f"lid {side}"] = sprite(skin, lid)
        lash = strokes([curve(_lash(middle), closed=False)], 2.6, soft=0.3)
        parts[f"lash {side}"] = sprite(flat((0.16, 0.08, 0.06)), lash)
    return parts


def _almond(middle: float, grow: float = 0.0) -> np.ndarray:
    x, y, g = middle, EYE_Y, grow
    upper = [(x - 19 - g, y + 3), (x - 9, y - 8 - g), (x + 4, y - 10 - g), (x + 19 + g, y)]
    return curve([*upper, (x + 6, y + 9 + g), (x - 8, y + 9 + g)])


def _lash(middle: float) -> list[Point]:
    y = EYE_Y
    return [(middle - 21, y + 3), (middle - 10, y - 8), (middle + 4, y - 10.5), (middle + 21, y - 1)]


def _brow(middle: float, side: int) -> Sprite:
    inner, outer = middle - side * 21, middle + side * 26
    shape = curve([(inner, 186), (middle, 177), (outer, 186), (outer - side * 2, 189), (middle, 184), (inner, 193)])
    return sprite(flat((0.27, 0.15, 0.09)), mask(shape, soft=0.7) * 0.92)


def _mouth() -> dict[str, Sprite]:
    """The mouth at rest, and opened wide; the scene blends from one to the other by scaling."""
    line = strokes([curve([(292, 282), (306, 287), (320, 288.5), (334, 287), (348, 282)], closed=False)], 2.2, soft=0.6)
    lips = mask(
        curve([(291, 282), (308, 279.5), (320, 281.5), (332, 279.5), (349, 282), (334, 292), (320, 294.5), (306, 292)]),
        soft=0.8,
    )
    closed = over(lit((0.80, 0.42, 0.40), lips, depth=6, gloss=0.15), (0.40, 0.14, 0.14), line)
    rim = mask(
        curve([(288, 276), (306, 276), (320, 279), (334, 276), (352, 276), (340, 304), (320, 312), (300, 304)]),
        soft=0.7,
    )
    gap = mask(curve([(294, 279), (320, 283), (346, 279), (335, 300), (320, 305), (305, 300)]), soft=0.5)
    x, y = grid()
    opened = lit((0.80, 0.42, 0.40), rim, depth=5, gloss=0.15)
    inside = ramp((0.22, 0.05, 0.06), (0.36, 0.10, 0.10), (y - 282) / 22)
    inside = over(inside, (0.80, 0.40, 0.40), np.exp(-(((x - 320) / 14) ** 2 + ((y - 303) / 7) ** 2)))
    teeth = mask(curve([(299, 280), (320, 282), (341, 280), (334, 288), (320, 290.5), (306, 288)]), soft=0.5)
    inside = over(inside, (0.96, 0.94, 0.90), teeth)
    return {
        "mouth closed": sprite(closed, np.maximum(lips, line)),
        "mouth open": sprite(over(opened, inside, gap), rim),
    }


def _glasses() -> Sprite:
    rings = [np.concatenate([oval(middle, 213, 31, 28)] * 2)[:170] for middle in EYES]
    bars = [curve([(314, 206), (320, 203), (326, 206)], closed=False)]
    bars += [curve([(253, 206), (242, 204)], closed=False), curve([(387, 206), (398, 204)], closed=False)]
    frame = strokes([*rings, *bars], 3.4, soft=0.3)
    colour = lit((0.34, 0.20, 0.12), frame, depth=1.7, gloss=0.5)
    lenses = mask(*(oval(middle, 213, 30, 27) for middle in EYES))
    x, y = grid()
    streak = np.clip(1 - np.abs((x - 320) % 72 - 18 + 0.7 * (y - 213)) / 7, 0, 1) * 0.16 + 0.04
    both = np.maximum(frame, lenses * streak)
    return sprite(over(flat((1, 1, 1)), colour, np.clip(frame * 1.5, 0, 1)), both)


def _arm(rng: np.random.Generator) -> Sprite:
    cover = mask(curve([(474, 388), (512, 376), (528, 430), (536, 520), (470, 540), (462, 460)]))
    x, y = grid()
    wool = flat(_SWEATER) * (1 + noise(rng, (2, 0.04))[..., None])
    cuff = np.clip(8 - np.abs(y + 0.3 * (x - 494) - 390), 0, 1)
    wool = over(wool, (0.93, 0.86, 0.70), cuff * 0.95)
    return sprite(lit(wool, cover, depth=30, relief=0.3 * np.sin(y * 1.6)), cover)


def _hand(rng: np.random.Generator) -> Sprite:
    palm = curve([(468, 316), (498, 306), (526, 318), (530, 350), (514, 384), (482, 390), (466, 360)])
    fingers = [
        ((478, 326), (464, 268), 10.5),
        ((495, 318), (490, 250), 11),
        ((511, 320), (515, 256), 10.5),
        ((524, 332), (540, 280), 9),
    ]
    thumb = ((474, 366), (440, 330), 11.0)
    skin = _skin(rng)
    hand = flat(_SKIN)
    cover = np.zeros(hand.shape[:2], np.float32)
    for root, tip, width in [*fingers, thumb]:
        one = mask(_finger(root, tip, width))
        hand = over(hand, hand * 0.6, blurred(one, 1.6) * 0.8)
        hand = over(hand, lit(skin, one, depth=width * 0.95, shadow=_SKIN_SHADOW), one)
        cover = np.maximum(cover, one)
    flesh = mask(palm)
    blend = mask(palm, soft=3.0) * np.maximum(flesh, cover)
    hand = over(hand, lit(skin, np.maximum(flesh, cover), depth=26, shadow=_SKIN_SHADOW), np.clip(blend * 1.1, 0, 1))
    crease = strokes([curve([(474, 338), (494, 334), (520, 341)], closed=False)], 3.0, soft=2.0)
    hand = over(hand, hand * (0.82, 0.66, 0.62), crease * flesh * 0.55)
    return sprite(hand, np.maximum(cover, flesh))


def _finger(root: Point, tip: Point, width: float) -> np.ndarray:
    along = np.subtract(tip, root)
    side = np.array([-along[1], along[0]]) / np.hypot(*along) * width
    ends = [root + side, root + along * 0.5 + side * 0.95, root + along * 0.92 + side * 0.8, np.add(tip, along * 0.06)]
    ends += [root + along * 0.92 - side * 0.8, root + along * 0.5 - side * 0.95, root - side]
    return curve([(float(x), float(y)) for x, y in ends])
