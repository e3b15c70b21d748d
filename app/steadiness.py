"""Steadiness: what stands still in front of the camera stands still in the picture, too.

A diffusion model answers sensor noise that nobody sees with other brush strokes in every frame: a wall boils. Here the
picture before is carried along the motion and mixed into the new one, where the input is still what it was. The input
is remembered with the very same weights, so that what is compared with the new frame is what the memory is made of:
slow changes add up and are noticed, and nothing lives on that is not there any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from app.catalogue import catalogue, value_of
from app.frame import Frame
from app.reprojection.flow import Motion, sampled
from app.reprojection.track import Track
from app.reprojection.warp import carry
from app.settings import Settings
from pipeline.setting import Value

# The memory's share at full strength. Below 1, so that every scene settles on what the model makes of it now.
_LARGEST_SHARE = 0.95
# Change of the input around a pixel, in grey levels: up to the first it is taken for noise, from the second on the
# memory has no part in the new picture.
_NOISE, _CHANGE = 3.0, 9.0
_AROUND = (5, 5)  # pixels that noise is averaged over
_REACH = np.ones((9, 9), np.uint8)  # a model paints beyond the edge of what changed
_INPUT_SIDE = 256  # the shorter side of the remembered input, in pixels, about
# Every move blurs the memory a little, so that what moves is remembered for less long.
_MOVING_SHARE = 0.5


@dataclass(slots=True, eq=False)
class _Memory:
    """The last picture, and what it is made of.

    Attributes:
        picture: (H, W, 3 or 4) float32 in 0..255.
        seen: (h, w, 3) float32 in 0..255: the input in the same mixture.
        frame: the camera frame of the newest picture in it.
        look: the settings that decide what a picture looks like.
        rest: (h, w, 2) float32: the part of a pixel by which the picture has not been moved yet; None for nothing.
    """

    picture: np.ndarray
    seen: np.ndarray
    frame: Frame
    look: tuple[Value, ...]
    rest: np.ndarray | None = None


class Steadier:
    """Mixes each picture with the one before. Not for use by two threads at once.

    Args:
        track: measures motion; shared with whoever else on this thread needs it.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._memory: _Memory | None = None
        self._look: tuple[Value, ...] = ()
        self._turning = 0.0, 0.0  # from when to when a change takes its time, by the frames' time in seconds

    def reset(self) -> None:
        """Forget the pictures so far: another source."""
        self._memory, self._look, self._turning = None, (), (0.0, 0.0)

    def __call__(self, pixels: np.ndarray, frame: Frame, settings: Settings) -> np.ndarray:
        """The steady picture.

        Args:
            pixels: (H, W, 3) uint8, or (H, W, 4) with its opacity, the model's answer to ``frame``; not changed.
            frame: the camera frame, with its tensor of the same height and width.
            settings: those in force; at a change of prompt, strength or whatever else decides the look, and at a cut,
                the memory is let go at once.

        Returns:
            An array like ``pixels``; ``pixels`` itself where there is nothing to mix in.
        """
        look = _look(settings)
        now = frame.captured_at if frame.media_time is None else frame.media_time
        if look != self._look:
            # Prompts may turn into others over a time of their own; until then every picture is another.
            self._turning = now, now + (settings.stream.transition if self._look else 0.0)
            self._look = look
        memory, self._memory = self._memory, None
        if settings.steadiness <= 0 or frame.tensor is None or self._turning[0] <= now < self._turning[1]:
            return pixels
        seen = _small_input(frame.tensor.numpy())
        motion = self._motion_from(memory, pixels, frame, look)
        if memory is None or motion is None:
            self._memory = _Memory(pixels.astype(np.float32), seen, frame, look)
            return pixels
        whole, rest = _whole_pixels(motion, memory.rest, pixels.shape[0])
        remembered = carry(memory.seen, whole, fade=False)
        share = _share(seen, remembered, motion) * np.float32(_LARGEST_SHARE * settings.steadiness)
        picture = _mixed(pixels.astype(np.float32), carry(memory.picture, whole, fade=False, exact=False), share)
        self._memory = _Memory(picture, _mixed(seen, remembered, share), frame, look, rest)
        return cv2.convertScaleAbs(picture)

    def _motion_from(
        self, memory: _Memory | None, pixels: np.ndarray, frame: Frame, look: tuple[Value, ...]
    ) -> Motion | None:
        """From the memory's frame to this one; None where there is nothing to remember."""
        if memory is None or memory.look != look or memory.picture.shape != pixels.shape:
            self._track.add(frame)
            return None
        return self._track.between(memory.frame, frame)


def _small_input(planes: np.ndarray) -> np.ndarray:
    """A frame (3, H, W) float32 in 0..1 as (h, w, 3) float32 in 0..255, its shorter side near ``_INPUT_SIDE``."""
    height, width = planes.shape[1:]
    factor = max(1, round(min(height, width) / _INPUT_SIDE))
    size = (width // factor, height // factor)
    return cv2.merge([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]) * np.float32(255)


def _share(seen: np.ndarray, remembered: np.ndarray, motion: Motion) -> np.ndarray:
    """How much of the memory still holds, (h, w) float32 in 0..1, for inputs (h, w, 3) float32 in 0..255."""
    height, width = seen.shape[:2]
    red, green, blue = cv2.split(cv2.absdiff(cv2.blur(seen, _AROUND), cv2.blur(remembered, _AROUND)))
    changed = cv2.max(red, cv2.max(green, blue))
    holds = np.clip((_CHANGE - cv2.dilate(changed, _REACH)) / np.float32(_CHANGE - _NOISE), 0, 1)
    pace = np.minimum(np.maximum(np.abs(motion.flow[..., 0]), np.abs(motion.flow[..., 1])), 1)
    trust = motion.confidence * (1 - pace * np.float32(1 - _MOVING_SHARE))
    return holds * cv2.resize(trust, (width, height), interpolation=cv2.INTER_LINEAR)


def _whole_pixels(motion: Motion, rest: np.ndarray | None, height: int) -> tuple[Motion, np.ndarray]:
    """A motion in whole pixels of a picture of this height, and what it leaves for the next time.

    A picture moved by parts of pixels again and again would blur. Moved by whole ones it stays as sharp as it is, and
    as the rest is kept, never more than half a pixel beside its place.
    """
    flow = motion.flow if rest is None else motion.flow + sampled(rest, motion.flow)
    scale = np.float32(height / flow.shape[0])
    whole = np.rint(flow * scale) / scale
    return Motion(whole, motion.confidence), flow - whole


def _mixed(new: np.ndarray, old: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``old`` in its share, ``new`` in the rest; (H, W, 3 or 4) float32, the share of any size."""
    height, width = new.shape[:2]
    if share.shape != (height, width):
        share = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.blendLinear(old, new, share, 1 - share)


def _look(settings: Settings) -> tuple[Value, ...]:
    return tuple(value_of(settings, one) for one in catalogue().values() if one.setting.look)
