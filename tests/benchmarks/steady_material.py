"""What the benchmark of steadiness and reprojection runs on: clips as the engine sees them, and the true flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from app.capture import prepare
from app.frame import Frame
from app.sources.video import VideoSource
from assets.sample import clip_path
from assets.sample.paint import HEIGHT, WIDTH
from assets.sample.scene import Scene
from pipeline import Model, Stream, StreamConfig

SAMPLE, SAMPLE_FPS = "sample", 24
SAMPLE_START = 20  # the first frames of the sample clip are one still picture
_MOVED = 12  # grey levels by which a place must differ between two frames to count as moving content
_UNCHANGED = 4  # and up to which it counts as still in the input
# Layers of the sample that move with their whole sprite; eyes and mouth are too small, and partly transparent.
_WHOLE = ("hair behind", "neck", "body", "head", "glasses", "fringe", "arm", "hand")
_HALF = 2  # the true flow is computed on every second pixel of the stage


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of a clip.

    Attributes:
        name: of the file, or ``sample``.
        frames: with tensors of the benchmark's size.
        start: index of the first frame in the clip.
    """

    name: str
    frames: list[Frame]
    start: int


def clips(folder: Path, count: int, side: int) -> Iterator[Clip]:
    """The sample clip and every .mp4 of ``folder``: ``count`` frames of each as ``side`` x ``side`` pictures."""
    yield _read(SAMPLE, clip_path(), SAMPLE_START, count, side)
    for path in sorted(folder.glob("*.mp4")):
        yield _read(path.stem, path, 0, count, side)


def _read(name: str, path: Path, start: int, count: int, side: int) -> Clip:
    source, frames = VideoSource(path), []
    source.open()
    try:
        while len(frames) < count and (frame := source.read()) is not None:
            if frame.index >= start:
                time = frame.media_time or 0.0
                tensor = prepare(frame.pixels, side, side, "crop", False)
                frames.append(Frame(frame.index, time, pixels_of(tensor), tensor, time))
    finally:
        source.close()
    return Clip(name, frames, start)


def styled(model: Model, prompt: str, frames: list[Frame], **settings: Any) -> list[np.ndarray]:
    """What the model makes of each frame, (H, W, 3) uint8, under these settings of ``StreamConfig``."""
    stream = Stream(model, StreamConfig(prompt=prompt, **settings))
    try:
        outputs = [stream(frame.tensor, tags=[at]) for at, frame in enumerate(frames) if frame.tensor is not None]
        pictures = {one.tags[0]: one.image[0] for one in [*outputs, *stream.flush()] if not one.repeated}
        return [pixels_of(pictures[at]) for at in sorted(pictures)]
    finally:
        stream.close()


def pixels_of(planes: torch.Tensor) -> np.ndarray:
    """(3, H, W) float 0..1 to (H, W, 3) uint8."""
    return np.ascontiguousarray((planes.float().cpu().numpy().transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))


def moving(one: Frame, other: Frame) -> np.ndarray:
    """(H, W) bool: where the input differs between two frames, and a little around."""
    return cv2.dilate((_difference(one, other) > _MOVED).astype(np.uint8), np.ones((9, 9))) > 0


def unchanged(one: Frame, other: Frame) -> np.ndarray:
    """(H, W) bool: where the input is the same in two frames, and around."""
    return cv2.dilate(_difference(one, other), np.ones((9, 9))) < _UNCHANGED


def _difference(one: Frame, other: Frame) -> np.ndarray:
    return cv2.blur(cv2.absdiff(one.pixels, other.pixels), (5, 5)).max(axis=2).astype(np.float32)


def true_flow(scene: Scene, older: float, newer: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the sample at ``newer`` seconds was at ``older``, as the middle square at ``side`` pixels.

    Returns:
        The flow (side, side, 2) float32 in pixels of that picture, and where it holds (side, side) bool: on the whole
        layers and the room, where the pixel was visible at both times.
    """
    there, here = scene.matrices(older), scene.matrices(newer)
    names = [layer.name for layer in scene.layers if layer.name in _WHOLE]
    top_there, top_here = _topmost(scene, names, older), _topmost(scene, names, newer)
    rows, columns = top_here.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    scale = WIDTH / columns
    places = np.stack([(x + 0.5) * scale, (y + 0.5) * scale, np.ones_like(x)])
    came = places[:2].copy()
    for number, name in enumerate(names, 1):
        back = np.vstack([there[name], (0, 0, 1)]) @ np.linalg.inv(np.vstack([here[name], (0, 0, 1)]))
        on = top_here == number
        came[:, on] = (back @ places[:, on])[:2]
    flow = (came - places[:2]).transpose(1, 2, 0).astype(np.float32)
    at = (came.transpose(1, 2, 0) / scale - 0.5).astype(np.float32)
    seen = cv2.remap(
        top_there, at[..., 0], at[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=99
    )
    holds = (seen == top_here) & ~_edges(top_here)
    square = slice((columns - rows) // 2, (columns + rows) // 2)
    flow = cv2.resize(flow[:, square], (side, side), interpolation=cv2.INTER_AREA) * np.float32(side / HEIGHT)
    return flow, cv2.resize(holds[:, square].astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.99


def _topmost(scene: Scene, names: list[str], seconds: float) -> np.ndarray:
    """(HEIGHT, WIDTH) uint8: number of the layer that is seen, from 1; 0 is the room."""
    top = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, name in enumerate(names, 1):
        top[scene.coverage(name, seconds)[::_HALF, ::_HALF] > 0.5] = number
    return top


def _edges(labels: np.ndarray) -> np.ndarray:
    ring = np.ones((3, 3), np.uint8)
    return cv2.dilate(labels, ring) != cv2.erode(labels, ring)
