"""Soft painting with numpy and OpenCV: smooth shapes, lit as if they were modelled in clay.

Coordinates are those of the stage (640 x 480); arrays are ``SCALE`` times finer, so that edges come out smooth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

WIDTH, HEIGHT = 640, 480
SCALE = 2
_SUBPIXEL = 4  # bits
_LIGHT = np.array([-0.62, -0.52, 0.59], np.float32)  # from the window: upper left, towards the viewer

Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Sprite:
    """A painted piece of the picture.

    Attributes:
        colour: (h, w, 3) float32 RGB in 0..1, multiplied by alpha.
        alpha: (h, w) float32 in 0..1.
        corner: stage coordinates of the upper left pixel's corner.
    """

    colour: np.ndarray
    alpha: np.ndarray
    corner: Point


def sprite(colour: np.ndarray, alpha: np.ndarray) -> Sprite:
    """Cut a stage-sized painting down to where it covers anything."""
    area = _around(alpha)
    corner = (area[1].start / SCALE, area[0].start / SCALE)
    return Sprite((colour * alpha[..., None])[area], alpha[area], corner)


def curve(points: Sequence[Point], *, closed: bool = True, steps: int = 24) -> np.ndarray:
    """A smooth line (Catmull-Rom) through ``points``, as (N, 2) float."""
    control = np.asarray(points, float)
    if closed:
        control = np.concatenate([control[-1:], control, control[:2]])
    else:
        control = np.concatenate([2 * control[:1] - control[1:2], control, 2 * control[-1:] - control[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(control, control[1:], control[2:], control[3:], strict=False):
        bend = 2 * p0 - 5 * p1 + 4 * p2 - p3
        pieces.append(0.5 * (2 * p1 + (p2 - p0) * t + bend * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3))
    if not closed:
        pieces.append(control[-2:-1])
    return np.concatenate(pieces)


def oval(x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> np.ndarray:
    """The outline of an ellipse turned by ``angle`` degrees, as (N, 2) float."""
    around = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    outline = np.stack([rx * np.cos(around), ry * np.sin(around)], axis=1)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return outline @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def box(x: float, y: float, width: float, height: float, tilt: float = 0.0) -> np.ndarray:
    """The corners of a rectangle whose upper edge is moved ``tilt`` to the right, as (4, 2) float."""
    return np.array([(x + tilt, y), (x + width + tilt, y), (x + width, y + height), (x, y + height)], float)


def mask(*outlines: np.ndarray, soft: float = 0.0) -> np.ndarray:
    """Stage-sized float32 coverage in 0..1 of all the outlines together, blurred by ``soft``."""
    canvas = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [_fixed(outline)], 255, cv2.LINE_AA, shift=_SUBPIXEL)
    return blurred(canvas.astype(np.float32) / 255, soft)


def strokes(lines: Iterable[np.ndarray], width: float, soft: float = 0.0) -> np.ndarray:
    """Stage-sized float32 coverage of lines of one width."""
    canvas = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.uint8)
    fixed = [_fixed(line) for line in lines]
    cv2.polylines(canvas, fixed, False, 255, max(1, round(width * SCALE)), cv2.LINE_AA, shift=_SUBPIXEL)
    return blurred(canvas.astype(np.float32) / 255, soft)


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur by ``radius`` stage units."""
    return cv2.GaussianBlur(image, (0, 0), radius * SCALE) if radius > 0 else image


def noise(rng: np.random.Generator, *grains: tuple[float, float]) -> np.ndarray:
    """Stage-sized noise around 0: for each (size, strength) a layer of spots of that size in stage units."""
    total = np.zeros((HEIGHT * SCALE, WIDTH * SCALE), np.float32)
    for size, strength in grains:
        small = rng.standard_normal((round(HEIGHT / size) + 2, round(WIDTH / size) + 2)).astype(np.float32)
        total += strength * cv2.resize(small, (WIDTH * SCALE, HEIGHT * SCALE), interpolation=cv2.INTER_CUBIC)
    return total


def ramp(start: Colour, end: Colour, weight: np.ndarray) -> np.ndarray:
    """From one colour to another as ``weight`` goes from 0 to 1: (H, W, 3) float32."""
    weight = np.clip(weight, 0, 1)[..., None]
    return (1 - weight) * np.array(start, np.float32) + weight * np.array(end, np.float32)


def flat(colour: Colour) -> np.ndarray:
    """A stage-sized area of one colour."""
    return np.broadcast_to(np.array(colour, np.float32), (HEIGHT * SCALE, WIDTH * SCALE, 3))


def over(below: np.ndarray, colour: np.ndarray | Colour, coverage: np.ndarray) -> np.ndarray:
    """``colour`` painted over ``below`` where ``coverage`` says."""
    return below + (np.asarray(colour, np.float32) - below) * coverage[..., None]


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Stage coordinates (x, y) of every pixel."""
    y, x = np.mgrid[0 : HEIGHT * SCALE, 0 : WIDTH * SCALE].astype(np.float32)
    return x / SCALE, y / SCALE


def lit(
    base: np.ndarray | Colour,
    coverage: np.ndarray,
    *,
    depth: float,
    shadow: Colour = (0.46, 0.40, 0.46),
    gloss: float = 0.0,
    relief: np.ndarray | None = None,
) -> np.ndarray:
    """``base`` lit as a rounded body of the shape of ``coverage``.

    Args:
        base: colour of the material.
        coverage: the body's outline.
        depth: over how many stage units from the edge the body curves.
        shadow: what the light is multiplied by on the far side; a tint, so that shadows are not grey.
        gloss: strength of the highlight.
        relief: heights in stage units to add, for folds and texture.
    """
    area = _around(coverage)
    inside = np.pad((coverage[area] > 0.5).astype(np.uint8), 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1] / SCALE
    rise = np.clip(distance / depth, 0, 1)
    height = blurred(depth * np.sqrt(1 - (1 - rise) ** 2), depth / 6)
    if relief is not None:
        height = height + relief[area]
    slope_y, slope_x = np.gradient(height * SCALE)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    facing = normal @ _LIGHT
    light = np.clip(0.5 + 0.55 * facing, 0, 1)  # wrapped round the body, as a large window's light is
    lamp = np.clip(normal @ np.array([0.8, -0.2, 0.3], np.float32), 0, 1) ** 2  # a little warmth from the right
    tint = ramp(shadow, (1.08, 1.05, 1.0), light) + lamp[..., None] * np.array([0.10, 0.06, 0.02], np.float32)
    shine = gloss * np.clip(facing, 0, 1) ** 24
    painted = np.zeros((*coverage.shape, 3), np.float32)
    material = np.broadcast_to(np.asarray(base, np.float32), painted.shape)
    painted[area] = np.clip(material[area] * tint + shine[..., None], 0, 1)
    return painted


def _around(coverage: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that ``coverage`` touches."""
    rows, columns = (np.flatnonzero(coverage.max(axis=axis) > 0) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _fixed(outline: np.ndarray) -> np.ndarray:
    return np.round((outline * SCALE - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
