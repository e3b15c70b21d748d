"""A video file as a source: every frame in order, upright, with its time; or played in real time like a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import EOFError as FileEnds
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from app.frame import Frame
from app.sources.base import SourceError
from app.sources.pacing import wait_until

_FALLBACK_FPS = 25.0
_CATCH_UP_SECONDS = 0.5  # a clip held up for longer than this goes on from where it is, instead of racing


class VideoSource:
    """The frames of a clip.

    As a file (the default) it gives every frame, as fast as it is read. With ``realtime`` it keeps to the clock and is
    a live source, over and over again with ``loop``.

    Attributes:
        lost: after damaged or missing data, one sentence on how much could not be read; else None.

    Args:
        path: the clip, in any container and codec that FFmpeg reads.
        realtime: give each frame when its time has come.
        loop: start again at the end; only with ``realtime``.
    """

    def __init__(self, path: str | Path, *, realtime: bool = False, loop: bool = False) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self.live = realtime
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self._loop = loop and realtime
        self._closing = threading.Event()
        self._busy = threading.Lock()  # FFmpeg's objects must not be freed while another thread decodes with them
        self._container: InputContainer | None = None
        self._pictures: Iterator[tuple[float, np.ndarray]] = iter(())
        self._index = 0
        self._round_begun = 0  # index at which this round of a loop began
        self._round_seconds = 0.0  # media time at which the last frame read so far ends
        self._clock_zero = 0.0

    def open(self) -> None:
        """Open the clip at its beginning.

        Raises:
            SourceError: the file is missing, empty, not a video, or has no video stream.
        """
        with self._busy:
            self._release()
            self._closing.clear()
            self._container = container = _open_container(self._path)
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else None
            self.frame_count = None if self._loop else _estimate_frames(container, stream)
            self.lost = None
            self._index = 0
            self._begin_round(time.monotonic())

    def read(self) -> Frame | None:
        """The next frame, or None at the end of the clip or after ``close``.

        Raises:
            SourceError: not a single frame of the file can be decoded.
        """
        with self._busy:
            picture = self._next_picture()
            if picture is None:
                return None
            media_time, pixels = picture
            if self.live and not self._wait_for(media_time):
                return None
            index = self._index
            self._index += 1
            return Frame(index, time.monotonic(), pixels, media_time=None if self.live else media_time)

    def close(self) -> None:
        """Release the file; a waiting ``read`` returns None."""
        self._closing.set()
        with self._busy:
            self._release()

    def _next_picture(self) -> tuple[float, np.ndarray] | None:
        while not self._closing.is_set() and self._container is not None:
            picture = next(self._pictures, None)
            if picture is not None:
                return picture
            if self._index == self._round_begun:
                raise SourceError(f"{self._path} is a video without a single frame that can be decoded.")
            if not self._loop:
                return None
            self._release()
            self._container = _open_container(self._path)
            self._begin_round(self._clock_zero + self._round_seconds)
        return None

    def _begin_round(self, clock_zero: float) -> None:
        """Play from the file's beginning, whose media time 0 falls on ``clock_zero`` (``time.monotonic()`` seconds)."""
        self._pictures = self._decode()
        self._round_begun = self._index
        self._clock_zero = clock_zero

    def _wait_for(self, media_time: float) -> bool:
        due = self._clock_zero + media_time
        late = time.monotonic() - due
        if late > _CATCH_UP_SECONDS:
            self._clock_zero += late
        return wait_until(due, self._closing)

    def _decode(self) -> Iterator[tuple[float, np.ndarray]]:
        """``(media time in seconds, pixels)`` of every frame that is whole; the damage is written to ``lost``."""
        container = self._container
        assert container is not None
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        period = 1.0 / (self.fps or _FALLBACK_FPS)
        zero = (container.start_time or 0) / av.time_base
        found, damaged, previous, end = 0, 0, -period, 0.0
        for frame in _decoded(container, stream):
            if frame is None or frame.is_corrupt:
                damaged += 1
                continue
            tick = float(frame.time_base or 0)
            media_time = frame.pts * tick - zero if frame.pts is not None and tick else end
            if media_time <= previous:  # some files number the frames in the order of coding
                media_time = previous + period
            previous, end = media_time, media_time + (frame.duration * tick or period)
            self._round_seconds = end
            found += 1
            yield media_time, _upright(frame, stream)
        short = _promised_seconds(container, stream, damaged=damaged > 0) - end
        # Headers round, and a last frame may be shown for long: only a gap of several frames means a cut.
        missing = round(short * found / end) if found and short > 3 * period + 0.1 else 0
        if damaged or missing:
            about = max(damaged, missing)
            word = "frame" if about == 1 else "frames"
            self.lost = f"{self.name} is damaged or cut short: {found} frames were read, about {about} {word} are lost."

    def _release(self) -> None:
        self._pictures = iter(())
        if self._container is not None:
            self._container.close()
            self._container = None


def _open_container(path: Path) -> InputContainer:
    """The opened file, with at least one video stream. Raises ``SourceError``."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from error
    if not size:
        raise SourceError(f"{path} is empty (0 bytes).")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except FileEnds as error:
        raise SourceError(f"{path} breaks off before its first frame.") from error
    except (FFmpegError, OSError) as error:
        raise SourceError(f"{path} is not a video that can be read ({_reason(error)}).") from error
    if not container.streams.video:
        has = "only sound" if container.streams.audio else "no pictures"
        container.close()
        raise SourceError(f"{path} has no video in it, {has}.")
    return container


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame | None]:
    """Every frame, and None in place of what could not be decoded. Goes on after damage where FFmpeg can."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (FFmpegError, OSError):
            # The file broke off: what the decoder still holds is whole, so hand that out.
            yield None
            yield from _drain(stream)
            return
        if packet is None:
            return
        if packet.is_corrupt:
            yield None
            continue
        try:
            frames = packet.decode()
        except FFmpegError:
            yield None
            continue
        yield from frames


def _drain(stream: VideoStream) -> Iterator[av.VideoFrame]:
    try:
        yield from stream.codec_context.decode(None)
    except FFmpegError:
        return


def _upright(frame: av.VideoFrame, stream: VideoStream) -> np.ndarray:
    """(H, W, 3) uint8 RGB with square pixels, turned as the file's display matrix asks."""
    aspect = stream.sample_aspect_ratio
    width = round(frame.width * aspect) if aspect and aspect != 1 else frame.width
    pixels = frame.reformat(width=max(1, width), format="rgb24", **_colours(frame)).to_ndarray()
    turn = _TURNS.get(round(frame.rotation / 90) % 4)
    return np.asarray(pixels if turn is None else cv2.rotate(pixels, turn), np.uint8)


# FFmpeg counts quarter turns counterclockwise.
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def _colours(frame: av.VideoFrame) -> dict[str, Any]:
    """How the frame's YUV is meant; where the file does not say, HD is BT.709 and the rest BT.601, as in players."""
    if frame.format.is_rgb:
        return {}
    matrix = _MATRICES.get(frame.colorspace, Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return {"src_colorspace": matrix, "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG}


# By the numbers of ITU-T H.273.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}


def _estimate_frames(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.frames:
        return stream.frames
    rate = stream.average_rate or stream.guessed_rate
    if container.duration and rate:
        return max(1, round(container.duration / av.time_base * float(rate)))
    return None


def _promised_seconds(container: InputContainer, stream: VideoStream, *, damaged: bool) -> float:
    """How long the pictures last by the file's header; 0 where it does not say."""
    promised = 0.0
    if stream.duration and stream.time_base:
        promised = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:
        promised = container.duration / av.time_base
    if damaged and stream.average_rate:
        # AVI cuts the duration down to what is there. In a clip that is whole, this number also counts frames that were
        # trimmed off, so it is believed only where there is damage.
        promised = max(promised, stream.frames / float(stream.average_rate))
    return promised


def _reason(error: FFmpegError | OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
