"""A film: the pictures of an open video file, each upright, in RGB, with square pixels and with its time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as FileEnds
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.stream import VideoStream

from app.media.boxes import picture_codecs
from app.media.colours import ToRgb
from app.media.errors import MEDIA_ERRORS, MediaError, reason
from app.media.fields import Deinterlacer
from app.media.orientation import IDENTITY, Orientation, of_matrix, turned
from app.media.reading import (
    Length,
    clock_of,
    frame_rate,
    length_of,
    may_be_joined,
    open_media,
    packets_of,
    streams_of,
    why_no_file,
)
from app.media.tiles import Grid, Photo, read_photo
from app.media.tracks import film_of

_FALLBACK_FPS = 25.0
_TIME_ROUNDED = 0.001  # Matroska rounds times to milliseconds
_WIDEST_PIXEL = 16  # times as wide as high, or as high as wide; a file that says more is damaged

TimedPicture = tuple[float, np.ndarray]  # seconds from the beginning, (H, W, 3) uint8


class Film:
    """The pictures of a file, which is opened as this is made. Used by one thread at a time.

    Attributes:
        fps: frames a second, where the file says something that can be.
        length: how long it is.
        end: media time in seconds at which the last picture ends that was read.

    Args:
        path: of the file, in any container and codec that FFmpeg reads.
        stop: once this is set, no more pictures come.

    Raises:
        MediaError: there is nothing to be read, no film in it, or no decoder for it.
    """

    def __init__(self, path: Path, stop: threading.Event | None = None) -> None:
        self._path = path
        self._stop = stop or threading.Event()
        self._container, self._stream, self._grid = _open(path)
        self._begun = False
        self.fps = frame_rate(self._stream)
        self.length = Length(None, 1, 0.0) if self._grid is not None else length_of(path, self._container, self._stream)
        self.end = 0.0
        self._size = self._container.size
        self._period = 1 / (self.fps or _FALLBACK_FPS)
        self._joined = self.length.joined
        self._found = self._damaged = 0
        self._to_rgb = ToRgb()
        self._progressive = Deinterlacer()
        self._sought = False
        self._why = ""

    def pictures(self, start: float = 0.0) -> Iterator[TimedPicture]:
        """Every picture that is whole, from ``start`` seconds on. Whoever asks again ends what was asked for before.

        Raises:
            MediaError: the file cannot be opened again, or the photo that this is cannot be put together.
        """
        self._found = self._damaged = 0
        self._go_to(start)
        if self._grid is not None:
            yield 0.0, self._photo(self._grid)
            return
        shape = _Shape(self._stream, self._to_rgb)
        previous = -self._period
        self.end = max(0.0, start - self._period)
        for frame in self._whole_frames(start):
            tick = float(frame.time_base or 0)
            media_time = frame.pts * tick if frame.pts is not None and tick else self.end
            if media_time <= previous:  # some files number the frames in the order of coding
                media_time = previous + self._period
            previous, self.end = media_time, media_time + (max(0, frame.duration) * tick or self._period)
            if start and media_time < start - _TIME_ROUNDED and not self._is_last():
                continue
            try:
                pixels = shape(frame)
            except MEDIA_ERRORS as error:
                self._note_damage(error)
                continue
            self._found += 1
            yield media_time, pixels

    @property
    def lost(self) -> str | None:
        """After all pictures: one sentence on what could not be read, or was added meanwhile; else None."""
        promised = 0.0 if self._joined else self.length.promised
        if self._damaged and isinstance(self._stream, VideoStream) and self._stream.average_rate:
            # AVI cuts the duration down to what is there. In a clip that is whole, this number also counts frames that
            # were trimmed off, so it is believed only where there is damage.
            promised = max(promised, self._stream.frames / float(self._stream.average_rate))
        short = promised - self.end
        # Headers round, and a last frame may be shown for long: only a gap of several frames means a cut.
        cut = self._found > 1 and short > 3 * self._period + 0.1
        missing = round(short * self._found / self.end) if cut else 0
        if about := max(self._damaged, missing):
            word = "frame" if about == 1 else "frames"
            is_lost = f"about {about} {word} are lost."
            return f"{self._path.name} is damaged or cut short: {self._found} frames were read, {is_lost}"
        if self._has_grown():
            return f"{self._path.name} grew while it was read; {self._found} frames of it were there and were read."
        if self._progressive.failed:
            return f"{self._path.name} is interlaced, which this FFmpeg cannot mend: edges that move look like combs."
        return None

    @property
    def nothing(self) -> str:
        """The sentence for a film of which not one picture could be read."""
        codec = self._stream.codec_context.name
        why = f"{codec}; {self._why}" if self._why else codec
        return f"{self._path} is a video without a single frame that can be decoded (its codec is {why})."

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def _is_last(self) -> bool:
        return self.length.seconds is not None and self.end >= self.length.seconds - _TIME_ROUNDED

    def _has_grown(self) -> bool:
        try:
            return self._path.stat().st_size > self._size
        except OSError:  # deleted meanwhile, which does not touch what is open
            return False

    def _note_damage(self, error: BaseException | None = None) -> None:
        self._damaged += 1
        if error is not None:
            self._why = reason(error)

    def _whole_frames(self, start: float) -> Iterator[av.VideoFrame]:
        """Every frame without damage, no longer interlaced, at the latest from ``start`` on."""
        self._progressive = progressive = Deinterlacer()
        for frame in self._decoded(self._packets(start)):
            if frame is None or frame.is_corrupt:
                self._note_damage()
            else:
                yield from progressive(frame)
        yield from progressive.flush()

    def _go_to(self, start: float) -> None:
        """Have the file opened at its beginning, or where it can be sought in, at a key frame before ``start``."""
        self._sought = False
        if start and not self._joined:
            try:
                self._container.seek(round((start + self.length.zero) * av.time_base))
                self._sought = self._begun = True
            except MEDIA_ERRORS:  # this kind of file cannot be sought in
                pass
        if self._begun and not self._sought:
            self.close()
            self._container, self._stream, self._grid = _open(self._path)
        self._begun = True

    def _packets(self, start: float) -> Iterator[Packet]:
        """The packets of the film, with times that go on, at the latest from the key frame before ``start`` on."""
        clock = clock_of(self._container, self.length.zero if self._sought else None)
        packets = packets_of(self._container, streams_of(self._container, self._stream), clock)
        film = (packet for packet in packets if packet.stream.index == self._stream.index)
        for packet in film if self._sought or not start else _from_key_frame(film, start):
            if self._stop.is_set():
                return
            yield packet
            self._joined = self._joined or clock.joints > 0

    def _decoded(self, packets: Iterator[Packet]) -> Iterator[av.VideoFrame | None]:
        """Every frame, and None in place of what could not be decoded. Goes on after damage where FFmpeg can."""
        # Where files are received or joined, a packet is marked as corrupt as soon as one before it is missing: what it
        # makes of that is for the decoder to say. Elsewhere, part of the packet is missing.
        trusted = may_be_joined(self._container)
        while True:
            try:
                packet = next(packets, None)
            except MEDIA_ERRORS as error:
                # The file broke off: what the decoder still holds is whole, so hand that out.
                self._why = reason(error)
                yield None
                yield from self._drained()
                return
            if packet is None:
                return
            if packet.is_corrupt and not trusted:
                yield None
                continue
            try:
                frames = packet.decode()
            except MEDIA_ERRORS as error:
                self._why = reason(error)
                yield None
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                yield frame

    def _drained(self) -> list[av.VideoFrame]:
        assert isinstance(self._stream, VideoStream)
        try:
            return self._stream.codec_context.decode(None)
        except MEDIA_ERRORS:
            return []

    def _photo(self, grid: Grid) -> np.ndarray:
        """The photo that is stored as tiles."""
        found: dict[int, np.ndarray] = {}
        try:
            for packet in self._container.demux(list(self._container.streams.video)):
                if packet.stream.id not in grid.tiles:
                    continue
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    found[packet.stream.id] = self._to_rgb(frame, frame.width)
            pixels = grid.composed([found[tile] for tile in grid.tiles if tile in found])
        except MEDIA_ERRORS as error:
            raise MediaError(
                f"{self._path} is a photo of tiles that cannot be put together: {reason(error)}."
            ) from error
        self.end = self._period
        self._found = 1
        return pixels


def _open(path: Path) -> tuple[InputContainer, VideoStream, Grid | None]:
    """The opened file, the stream that is its film, and where it is a photo of tiles, how these lie."""
    container = _opened(path)
    try:
        photo = _photo_of(path, container)
        return container, _film_in(path, container, photo), photo.grid if photo is not None else None
    except MediaError:
        container.close()
        raise


def _opened(path: Path) -> InputContainer:
    try:
        why = why_no_file(path)
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise MediaError(f"{path} cannot be read: {reason(error)}.") from error
    if why:
        raise MediaError(f"{path} {why}.")
    try:
        return open_media(path)
    except FileEnds as error:
        raise MediaError(f"{path} breaks off before its first frame.") from error
    except MEDIA_ERRORS as error:
        raise MediaError(f"{path} is not a video that can be read ({reason(error)}).") from error


def _photo_of(path: Path, container: InputContainer) -> Photo | None:
    """What the file says of its picture, if it is a HEIC or AVIF photo."""
    if "mp4" not in container.format.name:
        return None
    try:
        return read_photo(path)
    except (OSError, ValueError) as error:
        raise MediaError(f"{path} is a photo that cannot be read: {reason(error)}.") from error


def _film_in(path: Path, container: InputContainer, photo: Photo | None) -> VideoStream:
    """The stream that is the film, or the photo; its decoder may use all cores."""
    videos = container.streams.video
    if photo is not None and photo.grid is not None:
        film = next((stream for stream in videos if stream.id in photo.grid.tiles), None)
    else:
        film = next((stream for stream in videos if photo is not None and stream.id == photo.item), None)
        film = film or film_of(container, path)
    if film is None:
        has = "only sound" if container.streams.audio else "no pictures"
        raise MediaError(f"{path} has no video in it, {has}{' and a cover' if videos else ''}.")
    if film.codec_context is None:
        raise MediaError(
            f"{path} is a video whose codec cannot be decoded here{_codec_of(path)}; "
            "convert it to a usual one, such as H.264, or take it without copy protection."
        )
    assert isinstance(film, VideoStream)
    film.thread_type = "AUTO"
    return film


def _codec_of(path: Path) -> str:
    try:
        names = picture_codecs(path)
    except (OSError, ValueError):
        names = []
    return f" ({', '.join(names)})" if names else ""


def _from_key_frame(packets: Iterator[Packet], start: float) -> Iterator[Packet]:
    """Of ``packets``, those from the key frame on that the picture shown at ``start`` seconds needs."""
    held: list[Packet] = []
    for packet in packets:
        if packet.is_keyframe:
            held.clear()
        held.append(packet)
        if not packet.size or (
            packet.pts is not None and float((packet.pts + (packet.duration or 0)) * packet.time_base) > start
        ):
            break
    yield from held
    yield from packets


class _Shape:
    """Frames of one film as pictures: in RGB, with square pixels, laid down as they are meant to be.

    Size, shape of the pixels, colours and orientation may change within a film.
    """

    def __init__(self, stream: VideoStream, to_rgb: ToRgb) -> None:
        self._context = stream.codec_context
        self._to_rgb = to_rgb
        self._coded = self._context.sample_aspect_ratio
        self._pixel = _pixel(stream.sample_aspect_ratio)  # the file's own word counts until the codec says another
        self._rotation: int | None = None
        self._orientation = IDENTITY

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8."""
        coded = self._context.sample_aspect_ratio
        if coded != self._coded:
            self._coded, self._pixel = coded, _pixel(coded)
        if frame.key_frame or frame.rotation != self._rotation:  # between these it does not change
            self._rotation, self._orientation = frame.rotation, _orientation(frame)
        width = max(1, round(frame.width * self._pixel))
        return self._orientation.applied(self._to_rgb(frame, width))


def _pixel(aspect: Fraction | None) -> float:
    """Width by height of a pixel; 1 where the file says nothing that can be."""
    return float(aspect) if aspect and 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL else 1.0


def _orientation(frame: av.VideoFrame) -> Orientation:
    try:
        beside = cast(SideDataContainer, frame.side_data)  # PyAV declares another type than it gives
        return of_matrix(np.frombuffer(bytes(beside[Type.DISPLAYMATRIX]), np.int32).tolist())
    except KeyError:
        return IDENTITY
    except ValueError:  # there is something that this PyAV has no name for; an angle at least it can tell
        return turned(round(frame.rotation / 90))
