"""From frames to pixels that Qt can put on the screen as they are: no conversion is left for the moment of painting."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np
from PySide6.QtGui import QImage

from app.frame import Frame
from app.opacity import multiplied, opaque
from app.tensors import ToHost
from ui.layout import Layout, Rect

# Three pictures are about at most: on the screen, ready for it, and in the making; with two parts each.
_KEPT_BUFFERS = 6


@dataclass(slots=True, eq=False)
class Part:
    """A picture at the size of the screen.

    Attributes:
        pixels: (H, W, 4) uint8, blue first; where it is ``transparent``, multiplied with its opacity.
        place: where it goes, in device pixels.
        transparent: whether it can be seen through.
    """

    pixels: np.ndarray
    place: Rect
    transparent: bool = False

    def image(self) -> QImage:
        """The pixels as Qt sees them, without a copy: not to be used after this part has been released."""
        height, width = self.pixels.shape[:2]
        how = QImage.Format.Format_ARGB32_Premultiplied if self.transparent else QImage.Format.Format_RGB32
        return QImage(self.pixels.data, width, height, 4 * width, how)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A frame made ready for one view: what is to be painted, and for which layout."""

    frame: Frame
    layout: Layout
    output: Part | None
    input: Part | None
    hint: Part | None = None

    def parts(self) -> list[Part]:
        """Those parts that there are."""
        return [part for part in (self.output, self.input, self.hint) if part is not None]


class Presenter:
    """Scales frames to a view's size before they are painted, on the thread that delivers them.

    ``offer`` may be called from any thread, the rest from the window's. Memory is used again from frame to frame.

    Args:
        transparent: pictures may be seen through; else they are green where nothing is.
    """

    def __init__(self, *, transparent: bool = False) -> None:
        self._transparent = transparent
        self._lock = threading.Lock()
        self._layout = Layout((0, 0))
        self._pending: Prepared | None = None
        self._free: list[np.ndarray] = []
        self._to_host = ToHost()

    def want(self, layout: Layout) -> None:
        """Prepare for this layout from now on."""
        with self._lock:
            self._layout = layout

    def offer(self, frame: Frame) -> None:
        """Make ``frame`` the next to be taken, in place of one that was not."""
        ready = self.prepare(frame)
        with self._lock:
            displaced, self._pending = self._pending, ready
        if displaced is not None:
            self.release(displaced)

    def take(self) -> Prepared | None:
        """The newest frame offered, once. It is the caller's until ``release``."""
        with self._lock:
            pending, self._pending = self._pending, None
            return pending

    def release(self, prepared: Prepared) -> None:
        """Its memory may be used again."""
        with self._lock:
            self._free.extend(part.pixels for part in prepared.parts())
            del self._free[:-_KEPT_BUFFERS]

    def prepare(self, frame: Frame) -> Prepared | None:
        """Scale ``frame`` for the layout of now; None while the view has no size."""
        with self._lock:
            layout = self._layout
        if min(layout.box) < 1:
            return None
        height, width = frame.pixels.shape[:2]
        output_place, _ = layout.places((width, height))
        output = self._output_part(frame, output_place) if layout.shows_output else None
        shown = None
        if layout.shows_input:
            original = input_pixels(frame)
            _, place = layout.places((original.shape[1], original.shape[0]))
            shown = self._part(original, place)
        hint = None
        if layout.shows_hint and frame.hint is not None:
            pixels = self._to_host(frame.hint[None])[0]
            hint = self._part(pixels, layout.places((pixels.shape[1], pixels.shape[0]))[0])
        return Prepared(frame, layout, output, shown, hint)

    def _output_part(self, frame: Frame, place: Rect) -> Part:
        if frame.alpha is None or not self._transparent:
            return self._part(opaque(frame), place)
        part = self._scaled(cv2.cvtColor(multiplied(frame), cv2.COLOR_RGBA2BGRA), place)
        part.transparent = True
        return part

    def _part(self, pixels: np.ndarray, place: Rect) -> Part:
        return self._scaled(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGRA), place)

    def _scaled(self, source: np.ndarray, place: Rect) -> Part:
        buffer = self._buffer(place.width, place.height)
        height, width = source.shape[:2]
        if (width, height) == (place.width, place.height):
            np.copyto(buffer, source)
        else:
            # Averages where a picture shrinks to less than half: every other way drops pixels, and fine lines flicker.
            how = cv2.INTER_AREA if place.width * 2 <= width else cv2.INTER_LINEAR
            cv2.resize(source, (place.width, place.height), dst=buffer, interpolation=how)
        return Part(buffer, place)

    def _buffer(self, width: int, height: int) -> np.ndarray:
        with self._lock:
            for at, free in enumerate(self._free):
                if free.shape[:2] == (height, width):
                    return self._free.pop(at)
        return np.empty((height, width, 4), np.uint8)


def input_pixels(frame: Frame) -> np.ndarray:
    """What the model was shown for this styled frame, (H, W, 3) uint8 RGB: cropped, resized and mirrored."""
    captured = frame.original
    if captured is None:
        return frame.pixels
    if captured.tensor is None:
        return captured.pixels
    return cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in captured.tensor.numpy()])
