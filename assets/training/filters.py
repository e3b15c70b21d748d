"""Styles drawn by filters: deterministic, the same everywhere in the picture, and none that loses a face.

None draws a regular pattern on plain ground (hatching, halftone dots, grout): from equal latents a network of
convolutions and nearest-neighbour upsampling gives equal pixels, so it could never learn one. Nor does one choose
between two answers that lie far apart (the nearest colour of a palette): a small network gives their mean.

Every filter maps (256, 256, 3) uint8 RGB to the same. What follows a grid follows the autoencoder's 8-pixel one, so
that a network can know where the grid is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Array = np.ndarray
CELL = 8


def _floats(photo: Array) -> Array:
    """uint8 -> float32 in 0..1."""
    return photo.astype(np.float32) / 255


def _bytes(picture: Array) -> Array:
    """Floats in 0..1 (clipped) -> uint8."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _grey(picture: Array) -> Array:
    """(H, W, 3) floats -> (H, W) luma."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _blur(picture: Array, sigma: float) -> Array:
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _smooth_step(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    x = np.clip((value - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def _even_light(grey: Array, sigma: float = 40, amount: float = 0.6) -> Array:
    """Lift dark regions and calm bright ones, so that lines are found in a dim room as well."""
    local = _blur(grey, sigma)
    return np.clip(grey * ((1 - amount) + amount * 0.55 / np.maximum(local, 0.12)), 0, 1)


def _flatten(photo: Array, rounds: int, sigma_colour: float = 28, diameter: int = 7) -> Array:
    """Bilateral smoothing: fewer textures, edges kept. uint8 in and out."""
    for _ in range(rounds):
        photo = cv2.bilateralFilter(photo, diameter, sigma_colour, diameter)
    return photo


def _saturate(picture: Array, factor: float) -> Array:
    """Move colours away from their luma."""
    grey = _grey(picture)[..., None]
    return np.clip(grey + (picture - grey) * factor, 0, 1)


def _ink_lines(grey: Array, sigma: float, sharpness: float, threshold: float, softness: float) -> Array:
    """XDoG lines (Winnemoeller 2012): 1 on paper, 0 on ink."""
    difference = (1 + sharpness) * _blur(grey, sigma) - sharpness * _blur(grey, sigma * 1.6)
    return np.where(difference >= threshold, 1.0, 1 + np.tanh((difference - threshold) * softness)).astype(np.float32)


def _steps(value: Array, step: float) -> Array:
    """`value` in steps of `step` with soft edges: what lies between two is rare, but never a coin toss."""
    position = value / step
    below = np.floor(position)
    return step * (below + _smooth_step(0.3, 0.7, position - below))


def _kuwahara(picture: Array, radius: int, sharpness: float = 8) -> Array:
    """Generalised Kuwahara filter (Papari 2007): eight blurred sectors, the calmest weigh most. Floats in and out."""
    reach = 2 * radius + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    window = np.exp(-(x * x + y * y) / (2 * (0.5 * radius) ** 2)) * (x * x + y * y <= radius * radius + 0.5)
    angle = np.arctan2(y, x)
    total, weights = np.zeros_like(picture), np.zeros(picture.shape[:2], np.float32)
    for sector in range(8):
        apart = np.abs((angle - sector * np.pi / 4 + np.pi) % (2 * np.pi) - np.pi)
        kernel = window * np.clip(1.2 - apart / (np.pi / 4), 0, 1)
        kernel[radius, radius] = window[radius, radius] / 8
        kernel = (kernel / kernel.sum()).reshape(reach, reach)
        mean = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT)
        square = cv2.filter2D(picture * picture, -1, kernel, borderType=cv2.BORDER_REFLECT)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0).sum(2))
        weight = 1 / (1 + (deviation * 255 / 12) ** sharpness)
        total += mean * weight[..., None]
        weights += weight
    return total / np.maximum(weights, 1e-12)[..., None]


def pencil(photo: Array) -> Array:
    """Graphite on paper: fine contours and soft shading.

    A camera's noise and what the autoencoder cannot hold are smoothed away first: the lines would tremble with them.
    """
    grey = _blur(_even_light(_grey(_floats(_flatten(photo, 1, 20, 5))), 45, 0.5), 0.7)
    dodge = np.clip(grey / np.maximum(_blur(grey, 5), 0.02), 0, 1) ** 3.2
    tone = _blur(grey, 1.5)
    shade = 1 - 0.42 * _smooth_step(0.60, 0.05, tone)
    paper = 0.97 * dodge * shade
    return _bytes(paper[..., None] * np.array([1.0, 0.99, 0.965], np.float32))


def ink(photo: Array) -> Array:
    """Brush and pen, black on white: bold lines and filled shadows, nothing between."""
    grey = _even_light(_grey(_floats(_flatten(photo, 2))), 30, 0.7)
    lines = _ink_lines(grey, 1.0, 16, 0.42, 6)
    black = _smooth_step(0.16, 0.24, _blur(grey, 1.5))
    return _bytes(np.repeat((lines * black)[..., None], 3, 2))


def comic(photo: Array) -> Array:
    """Flat bright colours in three tones on yellowed paper, black outlines; its shadows stay lighter than glass."""
    flat = _floats(_flatten(photo, 3, 32))
    grey = _grey(flat)
    tone = 0.47 + 0.59 * _steps(_even_light(grey, 45, 0.6), 1 / 3)
    colour = _saturate(np.clip(flat * (tone / np.maximum(grey, 0.06))[..., None], 0, 1), 2.2)
    lines = _ink_lines(_even_light(grey, 30, 0.7), 1.4, 16, 0.39, 4)
    paper = np.array([1.0, 0.94, 0.71], np.float32)
    return _bytes(colour * paper * lines[..., None])


def oil(photo: Array) -> Array:
    """Thick paint: Kuwahara strokes in umber and old varnish, light falling on the relief."""
    painted = _kuwahara(_floats(_flatten(photo, 1, 25)), 4)
    painted = _kuwahara(painted, 3)
    rich = _saturate(np.clip((painted - 0.5) * 1.2 + 0.5, 0, 1), 1.6)
    grey = _grey(rich)[..., None]
    umber = np.array([0.145, 0.055, -0.055], np.float32) * (1 - _smooth_step(0.05, 0.55, grey))
    varnish = np.array([0.065, 0.02, -0.11], np.float32) * _smooth_step(0.25, 0.75, grey)
    warm = np.clip(rich + umber + varnish, 0, 1)
    height = _blur(_grey(warm), 0.8)
    relief = cv2.filter2D(height, -1, np.array([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]], np.float32))
    return _bytes(warm + 0.8 * np.clip(relief, -0.4, 0.4)[..., None] + 0.01)


def watercolour(photo: Array) -> Array:
    """Pale washes that pool a little darker at their edges, white paper showing through the lights."""
    washed = _kuwahara(_floats(_flatten(photo, 2, 34)), 5)
    washed = _kuwahara(washed, 4)
    grey = _grey(washed)
    lifted = 0.30 + 0.70 * np.power(grey, 0.75)
    light = _saturate(washed, 1.3) * (lifted / np.maximum(grey, 0.10))[..., None]
    wash = _saturate(np.clip(0.75 * light + 0.25 * lifted[..., None], 0, 1), 1.3)
    calm = _blur(grey, 1.0)
    pool = np.clip((_blur(grey, 3) - calm) * 5.0, 0, 0.45)  # only on the dark side of an edge
    white = 0.9 * _smooth_step(0.55, 0.85, grey)[..., None]
    paper = np.array([1.0, 0.99, 0.965], np.float32)
    bloom = 1 + 0.30 * np.clip(_blur(grey, 7) - grey, -0.3, 0.3)
    return _bytes((wash * (1 - white) + white) * ((1 - pool) * bloom)[..., None] * paper)


def neon(photo: Array) -> Array:
    """Glowing tubes on night blue, each edge in its own vivid colour."""
    flat = _floats(_flatten(photo, 3, 30))
    even = _even_light(_grey(flat), 30, 0.8)
    smooth = _blur(even, 1.0)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    edge = _smooth_step(0.10, 0.55, np.sqrt(dx * dx + dy * dy))
    angle = (np.arctan2(dy, dx) / np.pi) % 1.0  # orientation, without sign
    warm = 0.5 + 0.5 * np.cos(2 * np.pi * angle)
    pink, cyan = np.array([1.0, 0.16, 0.72], np.float32), np.array([0.1, 0.85, 1.0], np.float32)
    colour = warm[..., None] * pink + (1 - warm[..., None]) * cyan
    tubes = edge[..., None] * colour
    glow = _blur(tubes, 2.2) * 1.1 + _blur(tubes, 7) * 1.0
    core = _smooth_step(0.6, 1.0, edge)[..., None] * 0.55
    night = np.array([0.03, 0.02, 0.10], np.float32) + 0.16 * _blur(even, 1.2)[..., None] * np.array(
        [0.35, 0.2, 0.9], np.float32
    )
    return _bytes(night + tubes * 0.75 + glow + core)


def pixel_art(photo: Array) -> Array:
    """Blocks of 4x4 pixels in few vivid colours: L*, a* and b* in steps."""
    small = cv2.resize(_floats(_flatten(photo, 2)), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = _saturate(np.clip((small - 0.45) * 1.3 + 0.48, 0, 1), 1.7)
    lab = cv2.cvtColor(np.clip(small, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)
    few = cv2.merge([_steps(lab[..., 0], 16) + 3, _steps(lab[..., 1], 22), _steps(lab[..., 2], 22)])
    blocks = cv2.cvtColor(few.astype(np.float32), cv2.COLOR_LAB2RGB)
    return _bytes(cv2.resize(blocks, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST))


def mosaic(photo: Array) -> Array:
    """Glazed square tiles; where the picture is detailed a tile falls into four; pale grout between unlike tiles."""
    picture = _saturate(np.clip((_floats(photo) - 0.5) * 1.25 + 0.5, 0, 1), 1.8)
    coarse = cv2.resize(picture, None, fx=1 / CELL, fy=1 / CELL, interpolation=cv2.INTER_AREA)
    fine = cv2.resize(picture, None, fx=2 / CELL, fy=2 / CELL, interpolation=cv2.INTER_AREA)
    again = np.kron(coarse, np.ones((2, 2, 1), np.float32))
    spread = cv2.resize(np.abs(again - fine).sum(2), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    split = np.kron((spread > 0.16).astype(np.float32), np.ones((CELL, CELL), np.float32))[..., None]
    half = np.ones((CELL // 2, CELL // 2, 1), np.float32)
    tiles = np.where(split > 0, np.kron(fine, half), np.kron(again, half)).astype(np.float32)
    above, left = np.roll(tiles, 1, 0), np.roll(tiles, 1, 1)
    above[0], left[:, 0] = tiles[0], tiles[:, 0]
    step = np.maximum(np.abs(tiles - above).sum(2), np.abs(tiles - left).sum(2))
    grout = 0.85 * _smooth_step(0.02, 0.12, step)[..., None]
    stone = np.array([0.93, 0.90, 0.84], np.float32)
    glaze = 1 + 0.10 * np.roll(grout, (1, 1), (0, 1)) - 0.16 * np.roll(grout, (-1, -1), (0, 1))
    return _bytes(tiles * glaze * (1 - grout) + stone * grout)


def _anime_light(photo: Array) -> Array:
    """Lifted tones, blue in the shadows and rose in the lights, as animation films grade their backgrounds."""
    flat = _kuwahara(_floats(_flatten(photo, 2, 26)), 3)
    grey = _grey(flat)[..., None]
    shadow = np.array([-0.02, 0.0, 0.10], np.float32) * np.clip(1 - grey * 1.6, 0, 1)
    light = np.array([0.05, 0.015, 0.02], np.float32) * _smooth_step(0.45, 0.8, grey)
    return _bytes(_saturate(np.power(np.clip(flat, 0, 1), 0.82), 1.1) + shadow + light)


def anime(photo: Array) -> Array:
    """Cel tones in three soft steps, no black: light shadows of violet, vivid colours, dark violet contours."""
    flat = _floats(_flatten(_anime_light(photo), 3, 30))
    grey = _blur(_grey(flat), 0.6)
    stepped = _steps(np.power(grey, 0.7), 1 / 3)
    bright = np.clip(flat * ((0.32 + 0.68 * stepped) / np.maximum(_grey(flat), 0.08))[..., None], 0, 1)
    vivid = _saturate(bright, 1.65)
    lines = _ink_lines(_even_light(grey, 30, 0.6), 1.15, 12, 0.34, 4)
    contour = np.array([0.22, 0.08, 0.34], np.float32)
    amount = (0.95 * (1 - np.clip(lines, 0, 1)))[..., None]
    return _bytes(vivid * (1 - amount) + contour * amount)


def stained_glass(photo: Array) -> Array:
    """Glowing panes of even light, blue where it is dark, golden where it is bright, parted by dark leads.

    The leads follow the lines of the picture alone: where a step of the light ends, a small network cannot tell.
    """
    flat = _floats(_flatten(photo, 3, 45))
    panes = _kuwahara(flat, 4)
    grey = _grey(panes)
    even = _steps(_blur(_even_light(grey, 40, 0.35), 1.5), 1 / 3)
    lead = 1 - _ink_lines(_even_light(_blur(_grey(flat), 0.7), 30, 0.7), 1.7, 14, 0.37, 4)[..., None]
    glow = panes * ((0.14 + 0.75 * even + 0.25 * grey) / np.maximum(grey, 0.06))[..., None]
    glass = _saturate(np.clip(glow, 0, 1), 2.0)
    blue = np.array([-0.05, 0.0, 0.38], np.float32) * (1 - _smooth_step(0.15, 0.5, even))[..., None]
    gold = np.array([0.16, 0.07, -0.32], np.float32) * _smooth_step(0.6, 0.95, even)[..., None]
    rose = np.array([0.15, -0.08, 0.02], np.float32) * np.exp(-np.square((even - 0.5) / 0.15))[..., None]
    return _bytes(np.clip(glass + blue + gold + rose, 0, 1) * (1 - lead) + 0.03 * lead)


FILTERS: dict[str, Callable[[Array], Array]] = {
    "pencil": pencil,
    "ink": ink,
    "comic": comic,
    "anime": anime,
    "oil": oil,
    "watercolour": watercolour,
    "neon": neon,
    "pixel_art": pixel_art,
    "mosaic": mosaic,
    "stained_glass": stained_glass,
}
