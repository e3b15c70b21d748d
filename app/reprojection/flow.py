"""Motion between two camera frames: dense optical flow on small grey copies, and how far it can be trusted.

The flow is DIS (Kroeger et al., 2016, arXiv 1603.03590) as OpenCV has it. It runs backward, from the newer frame to the
older one: that is the direction in which a picture is warped without holes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

SHORT_SIDE = 160  # of the small copy in pixels, or what a halving or two of the picture leaves next to it
_SMALLEST_SIDE = 32  # below, DIS has no patches to compare
NO_MAP: Any = None  # for cv2.remap: both coordinates are in the first map, which its type hints do not know of
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

# Forward/backward check (Sundaram et al., ECCV 2010, eq. 5): how far a pixel that goes there and back may miss its
# place, in small pixels squared, as a share of its way and at least.
_MISS_SHARE, _MISS_LEAST = 0.02, 1.0
_CHANGE_ALLOWED = 32.0  # grey levels by which a pixel may differ from where it is said to come from
_REST_BIAS = 0.1  # grey levels by which a motion must explain a pixel better than rest does
_BOX = (7, 7)  # neighbourhood over which two explanations are compared
_LARGEST_SHARE = 0.5  # of the longer side: a flow beyond is an accident


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where each pixel of a newer frame was in an older one.

    Attributes:
        flow: (h, w, 2) float32, finite: what is at ``p`` was at ``p + flow[p]``, x first, in pixels of the small copy.
        confidence: (h, w) float32 in 0..1; 0 where the pixel was uncovered, came from outside or is not to be trusted.
    """

    flow: np.ndarray
    confidence: np.ndarray

    @property
    def reliable(self) -> float:
        """The share of the picture whose motion is known, 0..1."""
        return float(self.confidence.mean())

    @property
    def rests(self) -> bool:
        """Whether nothing moves at all."""
        return not self.flow.any()


def checked(flow: np.ndarray, confidence: np.ndarray) -> Motion:
    """A ``Motion`` of raw values: what is not finite, or far too large, becomes rest without confidence."""
    largest = _LARGEST_SHARE * max(flow.shape[:2])
    if in_range(flow, largest) and in_range(confidence, 1):
        return Motion(flow, np.maximum(confidence, 0))
    good = np.isfinite(flow).all(axis=2) & np.isfinite(confidence)
    with np.errstate(invalid="ignore"):
        good &= (np.abs(flow) <= largest).all(axis=2)
    return Motion(np.where(good[..., None], flow, np.float32(0)), np.where(good, np.clip(confidence, 0, 1), 0))


def in_range(values: np.ndarray, largest: float) -> bool:
    """Whether every value is a number of at most this size."""
    # Of these two norms, only the sum is no number where one of the values is none.
    return math.isfinite(cv2.norm(values, cv2.NORM_L1)) and cv2.norm(values, cv2.NORM_INF) <= largest


def rest(height: int, width: int) -> Motion:
    """No motion, and full confidence in it, for a small copy of this size."""
    return Motion(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))


def small_grey(planes: np.ndarray) -> np.ndarray | None:
    """The small grey copy (h, w) uint8 of a frame (3, H, W) float32 in 0..1; None where it is too small to be of use.

    Both sides are halved until the shorter is near ``SHORT_SIDE``: whole factors are far quicker than others.
    """
    height, width = planes.shape[1:]
    factor = 2 ** max(0, round(math.log2(min(height, width) / SHORT_SIDE)))
    size = (width // factor, height // factor)
    if min(size) < _SMALLEST_SIDE:
        return None
    # By two at first, for which OpenCV has a path three times as fast as for any other factor.
    half = (width // 2, height // 2) if factor > 1 else (width, height)
    red, green, blue = (cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in planes)
    grey = cv2.scaleAdd(blue, _LUMA[2], cv2.addWeighted(red, _LUMA[0], green, _LUMA[1], 0))
    return cv2.convertScaleAbs(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), alpha=255)


class FlowEstimator:
    """Measures motion. Not for use by two threads at once."""

    def __init__(self) -> None:
        # The way back is what pictures are warped by; the way forth only checks it, so that half the detail will do.
        self._back = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._back.setFinestScale(1)
        self._forth = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def measure(self, older: np.ndarray, newer: np.ndarray) -> Motion:
        """The motion from one small grey copy (h, w) uint8 to a later one of the same shape."""
        if np.array_equal(older, newer):
            return rest(*older.shape)
        back = self._back.calc(newer, older, None)  # type: ignore[call-overload] - None: into a fresh array
        forth = self._forth.calc(older, newer, None)  # type: ignore[call-overload]
        explained = _difference(newer, sampled(older, back))
        # Where rest explains a pixel as well, it rests: noise must not make a still wall swim.
        still = _difference(newer, older) <= explained + _REST_BIAS
        back[still] = 0
        missed = back + sampled(forth, back)
        allowed = _MISS_SHARE * (_squared(back) + _squared(forth)) + _MISS_LEAST
        confidence = np.clip(2 - _squared(missed) / allowed, 0, 1)
        confidence[still] = 1
        confidence *= np.clip(2 - explained / _CHANGE_ALLOWED, 0, 1)
        confidence *= _inside(back)
        return checked(back, confidence)


def compose(older: Motion, newer: Motion) -> Motion:
    """Two motions, one after the other, as one: ``older`` is from A to B, ``newer`` from B to C; the result A to C."""
    if newer.rests:
        return checked(older.flow, older.confidence * newer.confidence)
    places = grid(*newer.flow.shape[:2]) + newer.flow
    # Nothing is known of what lies outside of the picture at B.
    trust = cv2.remap(older.confidence, places, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return checked(newer.flow if older.rests else newer.flow + _read(older.flow, places), trust * newer.confidence)


def sampled(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``values`` read at ``p + flow[p]``."""
    return _read(values, grid(*flow.shape[:2]) + flow)


def _read(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(values, places, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> np.ndarray:
    """(height, width, 2) float32: each pixel's own place, x first; not to be written to."""
    place = np.empty((height, width, 2), np.float32)
    place[..., 0] = np.arange(width, dtype=np.float32)
    place[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    place.flags.writeable = False
    return place


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w) float32: how much two grey pictures differ around each pixel, in grey levels."""
    return cv2.boxFilter(cv2.absdiff(one, other), cv2.CV_32F, _BOX)


def _squared(flow: np.ndarray) -> np.ndarray:
    return flow[..., 0] ** 2 + flow[..., 1] ** 2


def _inside(flow: np.ndarray) -> np.ndarray:
    """(h, w) bool: whether the place that each pixel came from is in the picture, with half a pixel of grace."""
    height, width = flow.shape[:2]
    places = grid(height, width) + flow
    return cv2.inRange(places, (-0.5, -0.5), (width - 0.5, height - 0.5)) > 0
