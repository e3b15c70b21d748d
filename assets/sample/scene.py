"""The sample clip's scene: layers, how each of them moves, and the picture that they make together.

Every layer is a rigid or stretched sprite under a 2x3 matrix that is a pure function of time, so the true motion of
every pixel is known: ``Scene.matrices`` at two moments gives the optical flow, ``Scene.coverage`` the mask of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from assets.sample.character import EYE_Y, EYES, paint_character
from assets.sample.paint import HEIGHT, SCALE, WIDTH, Point, Sprite, noise
from assets.sample.room import paint_room

SECONDS = 8.0
# When anything moves; outside of these two spans, half of the clip, every frame is the same picture.
MOVING = ((1.0, 3.0), (4.5, 6.5))
_EASE_SECONDS = 0.3

Matrix = np.ndarray  # (2, 3): where a point of the resting picture goes


@dataclass(frozen=True, slots=True)
class Layer:
    """A sprite in the order of painting.

    Attributes:
        name: what ``Scene.matrices`` knows it by.
        sprite: as painted at rest.
        within: a layer beyond whose edge this one is not seen, as an iris is not beyond its eye.
    """

    name: str
    sprite: Sprite
    within: str | None = None


class Scene:
    """Draws the clip; the same seed gives the same pictures."""

    def __init__(self, seed: int = 7) -> None:
        self._room = paint_room(seed)
        parts = paint_character(seed)
        inside = {f"{part} {side}": f"eye {side}" for part in ("iris", "lid") for side in ("left", "right")}
        self.layers = [Layer(name, parts[name], inside.get(name)) for name in _ORDER]
        # The camera's fixed pattern: grain that does not change from frame to frame, so that a still scene is still.
        rng = np.random.default_rng(seed + 1)
        self._grain = cv2.resize(noise(rng, (1.0, 0.011)), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)

    def draw(self, seconds: float) -> np.ndarray:
        """The picture at a time, (480, 640, 3) uint8 RGB."""
        canvas = self._room.copy()
        matrices, opacity = self.matrices(seconds), _opacity(seconds)
        covers = {layer.within: self.coverage(layer.within, seconds) for layer in self.layers if layer.within}
        for layer in self.layers:
            visible = opacity.get(layer.name, 1.0)
            if visible > 0:
                _paint(canvas, layer.sprite, matrices[layer.name], visible, covers.get(layer.within or ""))
        picture = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        picture = picture + self._grain[..., None] * (0.4 + picture)
        return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)

    def matrices(self, seconds: float) -> dict[str, Matrix]:
        """Where each layer is at a time, by name, in stage coordinates."""
        return {name: matrix[:2] for name, matrix in _placed(seconds).items()}

    def coverage(self, name: str, seconds: float) -> np.ndarray:
        """What a layer covers by itself at a time, (960, 1280) float32 in 0..1."""
        layer = next(layer for layer in self.layers if layer.name == name)
        canvas = np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 3), np.float32)
        white = Sprite(np.repeat(layer.sprite.alpha[..., None], 3, axis=2), layer.sprite.alpha, layer.sprite.corner)
        _paint(canvas, white, self.matrices(seconds)[name], 1.0, None)
        return canvas[..., 0]


def still(seconds: float) -> bool:
    """Whether nothing moves at this time."""
    return _stir(seconds, *MOVING[0]) == 0 and _stir(seconds, *MOVING[1]) == 0


_ORDER = (
    *("hair behind", "neck", "body", "head"),
    *(f"{part} {side}" for side in ("left", "right") for part in ("eye", "iris", "lid", "lash", "brow")),
    *("mouth closed", "mouth open", "glasses", "fringe", "arm", "hand"),
)


def _stir(seconds: float, start: float, end: float) -> float:
    """How much of a movement there is: 0 outside of a span, 1 within, eased at both ends."""
    edge = np.clip(min(seconds - start, end - seconds) / _EASE_SECONDS, 0, 1)
    return float(edge * edge * (3 - 2 * edge))


def _talking(seconds: float) -> float:
    """How far the mouth is open, 0..1."""
    t = seconds - MOVING[0][0]
    syllables = abs(np.sin(10.5 * t + 1.1 * np.sin(3.1 * t))) * (0.62 + 0.38 * np.sin(4.7 * t + 1))
    smile = 0.42 * _stir(seconds, MOVING[1][0] + 0.1, MOVING[1][1] - 0.1)
    return float(max(_stir(seconds, *MOVING[0]) * syllables, smile))


def _blinking(seconds: float) -> float:
    """How far the eyes are closed, 0..1."""
    return max(float(np.clip(1.25 - abs(seconds - at) / 0.085, 0, 1)) for at in (1.25, 2.45, 4.75, 5.9))


def _opacity(seconds: float) -> dict[str, float]:
    opened = float(np.clip(_talking(seconds) * 7, 0, 1))
    closed = 1.0 if _blinking(seconds) > 0 else 0.0
    return {"mouth open": opened, "mouth closed": 1 - opened, "lid left": closed, "lid right": closed}


def _placed(seconds: float) -> dict[str, np.ndarray]:
    """The 3x3 matrix of every layer."""
    first, second = _stir(seconds, *MOVING[0]), _stir(seconds, *MOVING[1])
    t = seconds
    sway = first * np.sin(2.6 * (t - 1)) + second * 0.8 * np.sin(3.0 * (t - 4.5))
    nod = first * np.sin(5.1 * (t - 1) + 0.6) + second * 0.5 * np.sin(6.0 * (t - 4.5))
    torso = _turned((320, 560), 1.2 * sway) @ _moved(2.0 * sway, 0)
    head = torso @ _turned((320, 330), 4.2 * sway + 2.0 * second) @ _moved(4.0 * sway, 3.2 * nod)
    behind = torso @ _turned((320, 330), 3.0 * sway + 1.4 * second) @ _moved(2.6 * sway, 2.2 * nod)
    placed = {"hair behind": behind, "neck": torso, "body": torso, "head": head}
    # What is nearer to the viewer turns further.
    placed |= {"glasses": head @ _moved(1.4 * sway, 0.5 * nod), "fringe": head @ _moved(1.0 * sway, 0.6 * nod)}
    face = head @ _moved(1.1 * sway, 0.8 * nod)
    gaze = _moved(first * 2.6 * np.sin(3.3 * t) + 2.4 * second, first * 1.2 * np.sin(2.2 * t) + 0.8 * second)
    shut, raised = _blinking(seconds), -3.5 * first * max(0.0, np.sin(4.2 * (t - 1))) - 3.0 * second
    for side, x in zip(("left", "right"), EYES, strict=True):
        top: Point = (x, EYE_Y - 11)
        placed[f"eye {side}"] = face
        placed[f"iris {side}"] = face @ gaze
        placed[f"lid {side}"] = face @ _stretched(top, 1, max(0.02, shut))
        placed[f"lash {side}"] = face @ _stretched((x, EYE_Y + 1), 1, 1 - 1.75 * shut)
        placed[f"brow {side}"] = face @ _moved(0, raised + 2.0 * shut)
    opened = _talking(seconds)
    placed["mouth closed"] = face @ _stretched((320, 286), 1 + 0.10 * second, 1)
    placed["mouth open"] = face @ _stretched((320, 281), 1.0 + 0.12 * second - 0.14 * opened, 0.22 + 0.78 * opened)
    lifted = _stir(seconds, MOVING[1][0], MOVING[1][1])
    wave = lifted * np.sin(11.0 * (t - 4.9))
    arm = _moved(0, 270 * (1 - lifted)) @ _turned((506, 540), 5.0 * wave + 4 * lifted)
    return placed | {"arm": arm, "hand": arm @ _turned((500, 388), 9.0 * wave)}


def _moved(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _turned(around: Point, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return _moved(*around) @ turn @ _moved(-around[0], -around[1])


def _stretched(around: Point, across: float, down: float) -> np.ndarray:
    return _moved(*around) @ np.diag([across, down, 1.0]) @ _moved(-around[0], -around[1])


def _paint(canvas: np.ndarray, piece: Sprite, matrix: Matrix, visible: float, within: np.ndarray | None) -> None:
    """Put a sprite onto the stage-sized ``canvas`` (in place) where ``matrix`` takes it."""
    # From the sprite's pixels to the stage, through the movement, to the canvas' pixels.
    to_stage = np.array([[1 / SCALE, 0, piece.corner[0] + 0.5 / SCALE], [0, 1 / SCALE, piece.corner[1] + 0.5 / SCALE]])
    whole = np.vstack([matrix, (0, 0, 1)]) @ np.vstack([to_stage, (0, 0, 1)])
    to_canvas = (np.array([[SCALE, 0, -0.5], [0, SCALE, -0.5], [0, 0, 1]]) @ whole)[:2]
    rows, columns = piece.alpha.shape
    corners = to_canvas @ np.array([[0, columns, 0, columns], [0, 0, rows, rows], [1, 1, 1, 1]])
    left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, canvas.shape[1::-1])
    if right <= left or bottom <= top:
        return
    to_canvas[:, 2] -= (left, top)
    size = (int(right - left), int(bottom - top))
    alpha = cv2.warpAffine(piece.alpha, to_canvas, size, flags=cv2.INTER_LINEAR) * visible
    colour = cv2.warpAffine(piece.colour, to_canvas, size, flags=cv2.INTER_LINEAR) * visible
    if within is not None:
        edge = within[top:bottom, left:right]
        alpha, colour = alpha * edge, colour * edge[..., None]
    area = canvas[top:bottom, left:right]
    area *= 1 - alpha[..., None]
    area += colour
