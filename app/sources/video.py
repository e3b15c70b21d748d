"""A video file as a source: every frame in order, upright, with its time; or played in real time like a camera."""

from __future__ import annotations

import math
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
_TIME_ROUNDED = 0.001  # Matroska rounds times to milliseconds


class VideoSource:
    """The frames of a clip.

    As a file (the default) it gives every frame, as fast as it is read. With ``realtime`` it keeps to the clock and is
    a live source, over and over again with ``loop``; then ``seek`` and ``loop`` may be used while another thread reads.

    Attributes:
        lost: after damaged or missing data, one sentence on how much could not be read; else None.
        duration: how long the clip is in seconds, once it is open; None where the file does not say.
        position: media time in seconds of the last frame read.
        loop: start again at the end; only with ``realtime``.

    Args:
        path: the clip, in any container and codec that FFmpeg reads.
        realtime: give each frame when its time has come.
        loop: as the attribute.
        start: media time in seconds to begin at; only with ``realtime``.
    """

    def __init__(self, path: str | Path, *, realtime: bool = False, loop: bool = False, start: float = 0.0) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self.live = realtime
        self.fps: float | None = None
        self.frame_count: int | None = None
        self.lost: str | None = None
        self.duration: float | None = None
        self.position = 0.0
        self.loop = loop and realtime
        self._wanted = start if realtime and start > 0 else None  # media time to go on from
        self._closing = threading.Event()
        self._interrupt = threading.Event()  # a seek or the end: whoever waits for a frame's time looks again
        self._busy = threading.Lock()  # FFmpeg's objects must not be freed while another thread decodes with them
        self._container: InputContainer | None = None
        self._pictures: Iterator[tuple[float, np.ndarray]] = iter(())
        self._index = 0
        self._round_begun = 0  # index at which this round of a loop began
        self._round_seconds = 0.0  # media time at which the last frame read so far ends
        self._jumped = False  # this round did not begin at the beginning
        self._clock_zero: float | None = 0.0  # when media time 0 falls; None until the first frame after a jump

    def open(self) -> None:
        """Open the clip at its beginning.

        Raises:
            SourceError: the file is missing, empty, not a video, or has no video stream.
        """
        with self._busy:
            self._release()
            self._closing.clear()
            self._interrupt.clear()
            self._container = container = _open_container(self._path)
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            self.fps = float(rate) if rate else None
            self.frame_count = None if self.loop else _estimate_frames(container, stream)
            self.duration = _duration(container, stream)
            self.lost = None
            self._index = 0
            self._begin_round(time.monotonic())

    def read(self) -> Frame | None:
        """The next frame, or None at the end of the clip or after ``close``.

        Raises:
            SourceError: not a single frame of the file can be decoded.
        """
        with self._busy:
            while (picture := self._next_picture()) is not None:
                media_time, pixels = picture
                if self.live and not self._wait_for(media_time):
                    continue  # closed, or another place is wanted
                index = self._index
                self._index += 1
                self.position = media_time
                return Frame(index, time.monotonic(), pixels, media_time=None if self.live else media_time)
            return None

    def seek(self, seconds: float) -> None:
        """Go on from this media time; the next frame read is the first at or after it. Never waits.

        Args:
            seconds: below 0 counts as 0; beyond the end is the end.

        Raises:
            ValueError: the source is not in real time, where every frame counts; or this is not a number.
        """
        if not self.live:
            raise ValueError("only a clip that plays in real time can be sought in")
        if not math.isfinite(seconds):
            raise ValueError(f"{seconds} is no time to go to")
        self._wanted = max(0.0, seconds)
        self._interrupt.set()

    def close(self) -> None:
        """Release the file; a waiting ``read`` returns None."""
        self._closing.set()
        self._interrupt.set()
        with self._busy:
            self._release()

    def _next_picture(self) -> tuple[float, np.ndarray] | None:
        while not self._closing.is_set() and self._container is not None:
            if self._wanted is not None:
                self._jump()
            picture = next(self._pictures, None)
            if picture is not None:
                if self._clock_zero is None:  # after a jump, time begins with the first frame there
                    self._clock_zero = time.monotonic() - picture[0]
                return picture
            if self._index == self._round_begun and not self._jumped:
                raise SourceError(f"{self._path} is a video without a single frame that can be decoded.")
            if not self.loop:
                return None
            zero = self._clock_zero
            self._release()
            self._container = _open_container(self._path)
            self._begin_round(time.monotonic() if zero is None else zero + self._round_seconds)
        return None

    def _begin_round(self, clock_zero: float) -> None:
        """Play from the file's beginning, whose media time 0 falls on ``clock_zero`` (``time.monotonic()`` seconds)."""
        self._jumped = False
        self._pictures = self._decode()
        self._round_begun = self._index
        self._clock_zero = clock_zero

    def _jump(self) -> None:
        """Go on from the media time that is wanted."""
        self._interrupt.clear()
        wanted, self._wanted = self._wanted, None  # in this order: a seek that comes in between is met again
        if self._closing.is_set():
            self._interrupt.set()
        container = self._container
        if wanted is None or container is None:
            return
        if self.duration is not None:
            wanted = min(wanted, self.duration)
        try:
            container.seek(round(wanted * av.time_base) + (container.start_time or 0))
        except (FFmpegError, OSError):  # this kind of file cannot be sought in: read on from its beginning
            self._release()
            self._container = _open_container(self._path)
        self._jumped = True
        self._pictures = self._decode(wanted)
        self._clock_zero = None

    def _wait_for(self, media_time: float) -> bool:
        """Wait for the frame's time; False where something else is wanted before."""
        assert self._clock_zero is not None
        due = self._clock_zero + media_time
        late = time.monotonic() - due
        if late > _CATCH_UP_SECONDS:
            self._clock_zero += late
        return wait_until(due, self._interrupt)

    def _decode(self, start: float = 0.0) -> Iterator[tuple[float, np.ndarray]]:
        """``(media time in seconds, pixels)`` of every frame that is whole; the damage is written to ``lost``.

        From ``start`` on, though the container stands at the key frame before it; what lacks then is not counted.
        """
        container = self._container
        assert container is not None
        stream = container.streams.video[0]
        period = 1.0 / (self.fps or _FALLBACK_FPS)
        zero = (container.start_time or 0) / av.time_base
        found, damaged, previous, end = 0, 0, -period, 0.0 if not start else max(0.0, start - period)
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
            if start and media_time < start - _TIME_ROUNDED and not self._is_last(end):
                continue
            found += 1
            yield media_time, _upright(frame, stream)
        if start:
            return
        short = _promised_seconds(container, stream, damaged=damaged > 0) - end
        # Headers round, and a last frame may be shown for long: only a gap of several frames means a cut.
        missing = round(short * found / end) if found and short > 3 * period + 0.1 else 0
        if damaged or missing:
            about = max(damaged, missing)
            word = "frame" if about == 1 else "frames"
            self.lost = f"{self.name} is damaged or cut short: {found} frames were read, about {about} {word} are lost."

    def _is_last(self, end: float) -> bool:
        return self.duration is not None and end >= self.duration - _TIME_ROUNDED

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
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except FileEnds as error:
        raise SourceError(f"{path} breaks off before its first frame.") from error
    except (FFmpegError, OSError) as error:
        raise SourceError(f"{path} is not a video that can be read ({_reason(error)}).") from error
    if not container.streams.video:
        has = "only sound" if container.streams.audio else "no pictures"
        container.close()
        raise SourceError(f"{path} has no video in it, {has}.")
    container.streams.video[0].thread_type = "AUTO"
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


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the clip plays, in seconds, where the file says."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


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
