"""Frames into a video file that can be played even if the program is killed while it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.codec import Codec
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from app.files import SetAside
from app.fitting import laid_on
from app.frame import Frame
from app.media.clock import LONGEST_GAP
from app.media.errors import MEDIA_ERRORS, reason
from app.media.opening import open_media
from app.opacity import opaque, with_alpha
from app.sinks.audio import AudioCopy
from app.sinks.base import SinkError
from app.sinks.coding import FORMATS, VIDEO_SUFFIXES, Coding, coding_for
from app.sinks.watch import FileWatch
from pipeline.user_path import is_there
from pipeline.whole_files import NOT_ORDINARY

_CLOCK = Fraction(1, 90_000)  # ticks in which presentation times are written; whole for 24, 25, 30 and 60 fps
_LONGEST_STEP = round(LONGEST_GAP / _CLOCK)  # MP4 has 31 bits for it, and FFmpeg ends the program beyond them
_FALLBACK_FPS = 30.0
_SLOWEST = 1 / Fraction(LONGEST_GAP)  # frames a second


class VideoSink:
    """An H.264 file; MPEG-4 where this FFmpeg has no H.264 encoder, which ``lost`` then says; VP9 in a .webm.

    Where its first picture can be seen through, a .mov is ProRes 4444 and a .webm VP9 with alpha. In every other file
    what is transparent is green.

    The size is that of the first frame, made even; later frames of another size are fitted into it. A frame is shown
    at its ``media_time``, or for live sources when it was captured, counted from the first; with ``fps`` frame n is
    shown at n / fps. No frame stands for longer than an hour: what comes after a longer gap moves up.

    While it grows the file is a chain of fragments, each complete; a clean end turns an MP4 into an ordinary one.

    Attributes:
        lost: one sentence on what the file lacks (sound that cannot be copied, the better codec, transparency), or
            None.
        size: width and height of the file in pixels; None before the first frame.

    Args:
        path: ends in .mp4, .m4v, .mov, .mkv or .webm; an existing file is replaced with the first frame,
            not before, and stays where that cannot be written.
        fps: constant frame rate; None to keep the frames' own times.
        nominal_fps: asked at the first frame for the rate that the header is to name when the frames keep their own
            times; usually ``lambda: source.fps``.
        audio_from: file whose sound is copied, in step with ``media_time``, up to the end of the pictures.
        quality: constant rate factor, 0 (lossless) to 51; ProRes has its own.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float | None = None,
        nominal_fps: Callable[[], float | None] = lambda: None,
        audio_from: str | Path | None = None,
        quality: int = 18,
    ) -> None:
        self._path = Path(path)
        self.name = f"recording to {self._path.name}"
        self.lost: str | None = None
        self.size: tuple[int, int] | None = None
        self._fps = fps
        self._nominal_fps = nominal_fps
        self._audio_from = Path(audio_from) if audio_from is not None else None
        self._quality = quality
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._coding: Coding | None = None
        self._audio: AudioCopy | None = None
        self._watch: FileWatch | None = None
        self._old: SetAside | None = None
        self._zero: float | None = None
        self._written = 0
        self._last_pts = -1
        self._last_step = 0  # ticks between the last two frames
        self._moved = 0  # ticks by which frames come earlier than their times say

    @property
    def seconds(self) -> float:
        """When the last frame is shown, counted from the beginning of the file."""
        return float(max(0, self._last_pts) * _CLOCK)

    def open(self) -> None:
        """Check that the file can be written; it is created with the first frame.

        Raises:
            SinkError: unknown suffix, missing folder, or no permission to write.
        """
        if self._path.suffix.lower() not in VIDEO_SUFFIXES:
            kinds = ", ".join(VIDEO_SUFFIXES)
            raise SinkError(f"{self._path.name} is not a kind of video that can be written; use one of {kinds}.")
        check_writable(self._path)
        if self._audio_from is not None and _same_file(self._path, self._audio_from):
            raise SinkError(f"{self._path} is also the input; give the output another name.")

    def write(self, frame: Frame) -> None:
        """Add a frame. What came before an error stays playable.

        Raises:
            SinkError: the disk is full, or the file cannot be written for another reason.
        """
        try:
            if self._container is None:
                self._start(frame)
                self._old = SetAside(self._path)  # FFmpeg makes the file with the first frame
            self._encode(frame)
            if self._watch is None:
                self._watch = FileWatch(self._path)
            self._watch.look()
        except SinkError:
            self._abandon()
            raise
        except MEDIA_ERRORS as error:
            self._abandon()
            raise SinkError(f"{self._path} cannot be written: {reason(error)}.") from error
        self._written += 1
        if self._old is not None:
            self._old.drop()
            self._old = None

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the sound; see that the file is there, and whole.

        Raises:
            SinkError: this could not be written, and the file is playable up to there; or it is gone.
        """
        container, stream, audio = self._container, self._stream, self._audio
        if container is None or stream is None or not self._written:
            self._abandon()
            return
        try:
            container.mux(stream.encode(None))
            if audio is not None:
                audio.advance(float((self._last_pts + self._last_step) * _CLOCK))
                audio.finish()
                self.lost = self.lost or audio.lost
            self._container = None
            container.close()
            self._check()
        except MEDIA_ERRORS as error:
            self._abandon()
            raise SinkError(f"The end of {self._path} could not be written: {reason(error)}.") from error
        finally:
            self._release()

    def _check(self) -> None:
        """Have the file looked at as a player would. Raises ``SinkError`` or ``MEDIA_ERRORS`` where it is not whole."""
        if self._watch is not None:
            self._watch.look(now=True)
        with open_media(self._path) as container:
            found = container.streams.video[0].frames if container.streams.video else -1
            if found < 0 or 0 < found < self._written:  # Matroska does not count
                raise ValueError(f"it has {max(0, found)} of {self._written} frames")

    def _start(self, frame: Frame) -> None:
        height, width = frame.pixels.shape[:2]
        suffix = self._path.suffix.lower()
        self._coding = coding = coding_for(suffix, alpha=frame.alpha is not None, quality=self._quality, clock=_CLOCK)
        self.lost = coding.lost
        # FFmpeg takes "12:30.mp4" for an address of the protocol 12; nothing that begins with a slash is one.
        self._container = container = av.open(
            str(self._path.absolute()), "w", format=FORMATS[suffix], options=_mux_options(suffix)
        )
        rate = Fraction(self._fps or self._nominal_fps() or _FALLBACK_FPS).limit_denominator(1001)
        rate = max(_SLOWEST, rate)  # of less than a frame in half an hour, only 0 is left
        self._last_step = round(1 / rate / _CLOCK)
        stream = container.add_stream(Codec(coding.codec, "w").name, rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, coding.pixels
        self.size = stream.width, stream.height
        context = stream.codec_context
        context.time_base = coding.clock
        context.gop_size = max(1, round(rate))
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        context.options = dict(coding.options)
        self._stream = stream
        if self._audio_from is not None:
            self._audio = AudioCopy(self._audio_from, container, suffix)
            self.lost = self.lost or self._audio.lost

    def _encode(self, frame: Frame) -> None:
        container, stream, coding = self._container, self._stream, self._coding
        assert container is not None
        assert stream is not None
        assert coding is not None
        pts = max(self._last_pts + 1, round(self._time_of(frame) / _CLOCK) - self._moved)
        if (too_much := pts - max(0, self._last_pts) - _LONGEST_STEP) > 0:
            pts, self._moved = pts - too_much, self._moved + too_much
        if self._written:
            self._last_step = pts - self._last_pts
        self._last_pts = pts
        pixels = _fitted(self._pixels(frame, coding), stream.width, stream.height)
        picture = av.VideoFrame.from_ndarray(pixels, format="rgba" if coding.alpha else "rgb24")
        picture = picture.reformat(
            format=coding.pixels, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = pts, _CLOCK
        for packet in stream.encode(picture):
            # Else the last frame would last as long as the nominal rate says.
            packet.duration = round(self._last_step * _CLOCK / packet.time_base)
            container.mux(packet)
        if self._audio is not None:
            self._audio.advance(float(pts * _CLOCK))

    def _pixels(self, frame: Frame, coding: Coding) -> np.ndarray:
        """(H, W, 3) uint8, or (H, W, 4) where the file carries how opaque it is."""
        if not coding.alpha:
            if frame.alpha is not None:
                name = self._path.name
                self.lost = self.lost or f"{name} is green behind the person: only .mov and .webm can be transparent."
            return opaque(frame)
        found = with_alpha(frame)
        return found if frame.alpha is not None else np.dstack([found, np.full(found.shape[:2], 255, np.uint8)])

    def _time_of(self, frame: Frame) -> float:
        """When the frame is to be shown, in seconds from the beginning of the file."""
        if self._fps is not None:
            return self._written / self._fps
        if frame.media_time is not None:
            return max(0.0, frame.media_time)
        if self._zero is None:
            self._zero = frame.captured_at
        return frame.captured_at - self._zero

    def _abandon(self) -> None:
        """Let go after an error; where there is no frame yet, all is as it was before."""
        container, self._container = self._container, None
        self._stream = None
        self._release()
        if container is not None:
            with contextlib.suppress(*MEDIA_ERRORS):  # the error that led here says it all
                container.close()
        if self._old is not None:
            with contextlib.suppress(OSError):
                self._old.put_back()
            self._old = None

    def _release(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None


def check_writable(path: Path) -> None:
    """Raise ``SinkError`` with one sentence where no file can be written at ``path``; leaves everything as it was."""
    try:
        if not path.parent.is_dir():
            raise SinkError(f"{path} cannot be written: there is no folder {path.parent}.")
        if path.is_dir():
            raise SinkError(f"{path} cannot be written: it is a folder.")
        existed = path.exists()
        if path.is_fifo() or path.is_socket():  # to open one may take for ever
            raise SinkError(f"{path} cannot be written: {NOT_ORDINARY}.")
        with path.open("ab"):
            pass
    except (OSError, ValueError) as error:
        raise SinkError(f"{path} cannot be written: {reason(error)}.") from error
    if not existed:
        path.unlink()


def _mux_options(suffix: str) -> dict[str, str]:
    # A second of pictures without sound to match is not held back for more than that second.
    common = {"flush_packets": "1", "max_interleave_delta": "1000000"}
    if suffix in (".mkv", ".webm"):
        return common | {"cluster_time_limit": "500"}
    return common | {"movflags": "hybrid_fragmented+frag_keyframe+default_base_moof", "frag_duration": "500000"}


def _fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """``pixels`` in this size: an odd edge doubled, black (or transparent) bars where the shape differs."""
    high, wide = pixels.shape[:2]
    if (high + high % 2, wide + wide % 2) == (height, width):
        if (high, wide) == (height, width):
            return np.ascontiguousarray(pixels)
        return cv2.copyMakeBorder(pixels, 0, height - high, 0, width - wide, cv2.BORDER_REPLICATE)
    return laid_on(np.zeros((height, width, pixels.shape[2]), np.uint8), pixels)


def _same_file(one: Path, other: Path) -> bool:
    return is_there(one) and is_there(other) and one.samefile(other)
