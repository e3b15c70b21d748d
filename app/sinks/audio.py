"""The sound of one file into another, in step with its new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from app.media.clock import LONGEST_GAP
from app.media.errors import MEDIA_ERRORS, reason
from app.media.opening import open_media, ordinary_size
from app.media.reading import clock_of, may_be_joined, packets_of, streams_of
from app.media.sound import EvenSound
from app.media.tracks import film_of, sound_of

# Codecs that players expect in these containers; all others are turned into AAC.
_TAKEN_AS_IT_IS = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac"},
    ".m4v": {"aac", "mp3", "ac3", "eac3", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "vorbis", "flac", "pcm_s16le"},
    ".webm": {"opus", "vorbis"},
}
_CD_RATE, _USUAL_RATE = 44_100, 48_000  # samples a second; every other rate becomes the latter
_AAC_BITS = 96_000  # a second and channel, at which nothing is heard of the encoding


class AudioCopy:
    """Copies the sound of the film in ``source`` to ``output`` as the pictures advance.

    Packets are copied unchanged where the container takes their codec, and else encoded anew as AAC; so they are where
    files may be joined of pieces, as each piece may have another format. To be made before the first packet is written
    to ``output``, because streams cannot be added later.

    Attributes:
        lost: one sentence on sound that could not be copied; else None; pictures without it are better than none.

    Args:
        source: the file with the sound; one without any is fine.
        output: the open container to write to.
        suffix: of the output file, with the dot, lower case.
    """

    def __init__(self, source: Path, output: OutputContainer, suffix: str) -> None:
        self.lost: str | None = None
        self._source = source
        self._output = output
        self._input: InputContainer | None = None
        self._encoder: AudioStream | None = None
        self._copy: AudioStream | None = None
        self._pending: tuple[float, Packet | AudioFrame] | None = None
        self._items: _Items = iter(())
        try:
            ordinary_size(source)
            self._input = open_media(source)
            self._start(self._input, suffix)
        except MEDIA_ERRORS as error:
            self.close()
            self.lost = f"The sound of {source.name} was left out: {reason(error)}."

    def _start(self, container: InputContainer, suffix: str) -> None:
        film = film_of(container, self._source)
        track = sound_of(container, film)
        if track is None:
            return
        assert isinstance(track, AudioStream)
        if track.codec_context is None:
            raise ValueError("its codec cannot be decoded here")
        # The film's packets are read as well, so that sound and pictures are on the same clock.
        packets = packets_of(container, streams_of(container, film), clock_of(container))
        own = (packet for packet in packets if packet.stream.index == track.index)
        joined = may_be_joined(container)
        if track.codec.canonical_name in _TAKEN_AS_IT_IS[suffix] and not joined:
            self._copy = self._output.add_stream_from_template(track)
            self._items = _in_order(own)
        elif suffix == ".webm":
            raise ValueError("a WebM file takes Opus and Vorbis alone; choose .mkv or .mp4")
        else:
            self._encoder = _aac_stream(self._output, track.codec_context, mono=not joined)
            self._items = self._decoded(own, self._encoder.codec_context)

    def advance(self, until: float) -> None:
        """Write the sound that begins before ``until`` seconds, counted as ``Frame.media_time``."""
        while True:
            if self._pending is None:
                self._pending = self._next()
            if self._pending is None or self._pending[0] >= until:
                return
            item, self._pending = self._pending[1], None
            if isinstance(item, Packet):
                item.stream = self._copy
                self._mux([item])
            elif self._encoder is not None:
                self._mux(self._encoder.encode(item))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._encoder is not None:
            self._mux(self._encoder.encode(None))

    def close(self) -> None:
        """Release the source. Safe to call more than once."""
        self._items = iter(())
        self._pending = None
        if self._input is not None:
            self._input.close()
            self._input = None

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            # What codecs put before the beginning, to get going, would make the muxer move everything by as much.
            if packet.pts is None or packet.pts + (packet.duration or 0) > 0:
                self._output.mux(packet)

    def _next(self) -> tuple[float, Packet | AudioFrame] | None:
        try:
            return next(self._items, None)
        except MEDIA_ERRORS as error:
            self._items = iter(())
            self._note_loss(error)
            return None

    def _note_loss(self, error: BaseException) -> None:
        self.lost = f"Part of the sound of {self._source.name} was left out: {reason(error)}."

    def _decoded(self, packets: Iterator[Packet], encoder: AudioCodecContext) -> _Items:
        """The sound in the encoder's format, without gaps; packets that cannot be decoded are silence, and told."""
        even = EvenSound(encoder.layout.name, encoder.sample_rate)
        for packet in packets:
            try:
                decoded = packet.decode()
            except MEDIA_ERRORS as error:
                self._note_loss(error)
                continue
            for frame in decoded:
                assert isinstance(frame, AudioFrame)
                yield from _timed(even(frame))
        yield from _timed(even.flush())


_Items = Iterator[tuple[float, Packet | AudioFrame]]  # each with the second at which it begins


def _timed(frames: Iterator[AudioFrame]) -> _Items:
    for frame in frames:
        yield float((frame.pts or 0) * (frame.time_base or 0)), frame


def _in_order(packets: Iterator[Packet]) -> _Items:
    """The packets that are whole, each after the one before it and none too long for a container."""
    last: int | None = None
    for packet in packets:
        if packet.pts is None or packet.dts is None or packet.is_corrupt:
            continue  # the empty packet that ends a stream; or one of which part is missing
        if last is not None:
            packet.dts = max(packet.dts, last + 1)
        last = packet.dts
        packet.pts = max(packet.pts, packet.dts)
        packet.duration = max(0, min(packet.duration or 0, round(LONGEST_GAP / packet.time_base)))
        yield float(packet.pts * packet.time_base), packet


def _aac_stream(output: OutputContainer, source: AudioCodecContext, *, mono: bool) -> AudioStream:
    """A stream of AAC in ``output``: stereo, or where the source is, and ``mono`` is allowed, mono."""
    stream = output.add_stream("aac", rate=_CD_RATE if source.sample_rate == _CD_RATE else _USUAL_RATE)
    # Not the source's own layout: raw sound often does not say which of its channels is which.
    channels = 1 if mono and source.layout.nb_channels == 1 else 2
    stream.codec_context.layout = "mono" if channels == 1 else "stereo"
    stream.codec_context.format = "fltp"
    stream.codec_context.bit_rate = _AAC_BITS * channels
    return stream
