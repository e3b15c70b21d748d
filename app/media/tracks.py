"""Which of a file's streams is the film, and which its sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from app.media.errors import MEDIA_ERRORS

_ASIDE = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.descriptions
_LOOKED_AT = 400  # packets, where several streams could be the film


@dataclass(frozen=True, slots=True)
class Track:
    """A stream of pictures or sound, by what its file says of it.

    Attributes:
        index: its number in the file.
        disposition: what it is for, as a sum of FFmpeg's ``Disposition``.
        decodable: whether FFmpeg has a decoder for it here.
        pictures: how many it has, where there is more than one to choose from; more than one means that it moves.
        area: of a picture in pixels; 0 for sound.
        advised: whether it is FFmpeg's own choice.
    """

    index: int
    disposition: int = 0
    decodable: bool = True
    pictures: int = 0
    area: int = 0
    advised: bool = False


def choose_film(tracks: Sequence[Track]) -> Track | None:
    """The film among streams of pictures; None where there is none but covers, thumbnails and parts of pictures.

    First come those that can be decoded, then those that move, then the one marked as default, then FFmpeg's choice.
    """
    aside = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
    films = [track for track in tracks if not track.disposition & aside]
    return max(films, key=lambda track: (track.decodable, track.pictures > 1, *_rank(track)), default=None)


def choose_sound(tracks: Sequence[Track]) -> Track | None:
    """The sound that belongs to the film: no commentary if there is another, then the default, then FFmpeg's choice."""
    return max(tracks, key=lambda track: (track.decodable, not track.disposition & _ASIDE, *_rank(track)), default=None)


def _rank(track: Track) -> tuple[bool, bool, int, int]:
    return bool(track.disposition & Disposition.default), track.advised, track.area, -track.index


def film_of(container: InputContainer, path: Path) -> Stream | None:
    """The stream of ``container``, opened from ``path``, that is the film; None where it has none."""
    streams = container.streams.video
    best = container.streams.best("video") if streams else None
    moving = _pictures(path) if len(streams) > 1 else {}
    tracks = [
        Track(
            stream.index,
            int(stream.disposition),
            stream.codec_context is not None,
            moving.get(stream.index, 0),
            stream.width * stream.height if stream.codec_context is not None else 0,
            best is not None and best.index == stream.index,
        )
        for stream in streams
    ]
    found = choose_film(tracks)
    return container.streams[found.index] if found is not None else None


def sound_of(container: InputContainer, film: Stream | None) -> Stream | None:
    """The stream of ``container`` that is the sound of ``film``; None where it has none."""
    streams = container.streams.audio
    best = container.streams.best("audio", film) if streams else None
    tracks = [
        Track(
            stream.index,
            int(stream.disposition),
            stream.codec_context is not None,
            advised=best is not None and best.index == stream.index,
        )
        for stream in streams
    ]
    found = choose_sound(tracks)
    return container.streams[found.index] if found is not None else None


def _pictures(path: Path) -> Counter[int]:
    """How many packets each stream of pictures has near the beginning of the file."""
    found: Counter[int] = Counter()
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            streams = container.streams.video
            for number, packet in enumerate(container.demux(streams)):
                found[packet.stream.index] += packet.size > 0
                if number > _LOOKED_AT or all(found[stream.index] > 1 for stream in streams):
                    break
    except MEDIA_ERRORS:
        pass  # what is damaged is told when it is read
    return found
