"""Opening a file, its packets on one clock that goes on, and how long it is by that clock."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Stream

from app.media.clock import LEAP_SECONDS, LONGEST_GAP, ContinuousClock
from app.media.errors import MEDIA_ERRORS
from app.media.tracks import film_of, sound_of

_SCANNED_BYTES = 32 << 20  # of a joined file, to know how long it is: a fraction of a second
_MISLEADING = 2.0  # times longer or shorter than what was scanned promises


def open_media(path: Path) -> InputContainer:
    """The opened file. Raises what PyAV raises (``MEDIA_ERRORS``)."""
    # An absolute path, for FFmpeg would take ``12:30.mp4`` for an address of the protocol ``12``.
    return av.open(str(path.absolute()), metadata_errors="replace")


def why_no_file(path: Path) -> str | None:
    """Why FFmpeg must not be given this path, as the end of a sentence; None where it may. It never waits.

    Raises:
        OSError: there is nothing there, or it may not be looked at.
        ValueError: this cannot be a path.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return "is no file but a folder" if stat.S_ISDIR(found.st_mode) else "is no file but a pipe or a device"
    return None if found.st_size else "is empty (0 bytes)"


def may_be_joined(container: InputContainer) -> bool:
    """Whether files of this format are received or joined in pieces, each with a clock of its own (TS, MPEG, Ogg)."""
    return bool(container.format.flags & Flags.ts_discont.value)


def clock_of(container: InputContainer, zero: float | None = None) -> ContinuousClock:
    """The clock by which the file begins at 0; ``zero`` is the time in the file that this is, where it is known."""
    leap = LEAP_SECONDS if may_be_joined(container) else LONGEST_GAP
    if zero is not None:
        return ContinuousClock(zero, leap=leap, sure=True)
    return ContinuousClock((container.start_time or 0) / av.time_base, leap=leap)


def packets_of(container: InputContainer, streams: Sequence[Stream], clock: ContinuousClock) -> Iterator[Packet]:
    """The packets of ``streams`` as they lie in the file, with times by ``clock``; the empty last ones as well.

    Two readers find the same times if they read the same streams.
    """
    tick_of = {stream.index: float(stream.time_base or 0) for stream in streams}
    for packet in container.demux(list(streams)):
        pts, dts = packet.pts, packet.dts
        at, tick = pts if dts is None else dts, tick_of[packet.stream.index]
        if pts is not None and dts is not None and (pts - dts) * tick > clock.leap:
            at = pts  # an encoder that reorders pictures gives those after a leap times to decode from before it
        if at is not None and tick:
            length = (packet.duration or 0) * tick
            shift = clock.shift(packet.stream.index, at * tick, length, in_order=at == dts)
            ticks = round(shift / tick)
            if ticks:
                packet.pts = None if pts is None else pts + ticks
                packet.dts = None if dts is None else dts + ticks
        yield packet


@dataclass(frozen=True, slots=True)
class Length:
    """How long the pictures of a file last, as far as it says.

    Attributes:
        seconds: None where it does not say.
        frames: about how many there are; None where it does not say.
        zero: the time in the file at which it begins.
        joined: whether its clock begins anew within it.
        promised: seconds that its header says, if that is to be believed; a file that gives less was cut short.
    """

    seconds: float | None
    frames: int | None
    zero: float
    joined: bool = False
    promised: float = 0.0


def length_of(path: Path, container: InputContainer, film: Stream) -> Length:
    """What ``container``, opened from ``path``, says of its length, or what its packets say where it cannot know."""
    stated, rate = stated_seconds(container, film), frame_rate(film)
    zero = (container.start_time or 0) / av.time_base
    if may_be_joined(container):
        # FFmpeg looks at the first and the last time in such a file, and knows nothing of joints between them.
        try:
            return _scanned(path, stated, rate)
        except MEDIA_ERRORS:
            return Length(None, None, zero)  # what is damaged is told when it is read
    frames = film.frames or (max(1, round(stated * rate)) if stated and rate else None)
    promised = stated if film.duration or len(container.streams) == 1 else None
    return Length(stated, frames, zero, promised=promised or 0.0)


def stated_seconds(container: InputContainer, film: Stream) -> float | None:
    """How long the pictures last by the file's header; None where it does not say."""
    if film.duration and film.duration > 0 and film.time_base:
        return float(film.duration * film.time_base)
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


def frame_rate(film: Stream) -> float | None:
    """Frames a second, where the file says something that can be."""
    for rate in (film.average_rate, film.guessed_rate):
        if rate and 0 < rate < 1000:  # a clock of milliseconds, or of 90 000 ticks, is no rate of frames
            return float(rate)
    return None


def _scanned(path: Path, stated: float | None, rate: float | None) -> Length:
    """The length by the packets of the file; of a large one by its first part, if the header says nothing like it."""
    with open_media(path) as container:
        film = film_of(container, path)
        assert film is not None
        clock = clock_of(container)
        end, frames, place, size = 0.0, 0, 0, container.size
        for packet in packets_of(container, streams_of(container, film), clock):
            place = max(place, packet.pos or 0)
            if packet.stream.index == film.index and packet.size:
                frames += 1
                if packet.pts is not None and packet.time_base:
                    end = max(end, float((packet.pts + max(0, packet.duration or 0)) * packet.time_base))
            if place > _SCANNED_BYTES:
                break
        else:
            return Length(end or None, frames or None, clock.zero, clock.joints > 0)
    share = size / place
    if stated is None or not 1 / _MISLEADING < stated / max(end * share, 1e-9) < _MISLEADING:
        stated = end * share
    counted = round(stated * rate) if rate else round(frames * share)
    return Length(stated, counted or None, clock.zero, clock.joints > 0)


def streams_of(container: InputContainer, film: Stream | None) -> list[Stream]:
    """The streams that every reader of a file's times reads: the film and its sound."""
    return [stream for stream in (film, sound_of(container, film)) if stream is not None]
