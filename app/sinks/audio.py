"""The sound of one file into another, in step with its new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

# Codecs that players expect in these containers; all others are turned into AAC.
_TAKEN_AS_IT_IS = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac"},
    ".m4v": {"aac", "mp3", "ac3", "eac3", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "vorbis", "flac", "pcm_s16le"},
}
_HIGHEST_RATE = 48_000


class AudioCopy:
    """Copies the first sound track of ``source`` to ``output`` as the pictures advance.

    Packets are copied unchanged where the container takes their codec, and else encoded anew as AAC. To be made before
    the first packet is written to ``output``, because streams cannot be added later.

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
        self._encoder: AudioStream | None = None
        self._copy: AudioStream | None = None
        self._pending: tuple[float, Packet | AudioFrame] | None = None
        self._items: _Items = iter(())
        try:
            self._input = av.open(str(source.absolute()), metadata_errors="replace")
        except (FFmpegError, OSError) as error:
            self._input = None
            self.lost = f"The sound of {source.name} was left out: {error.strerror}."
            return
        if not self._input.streams.audio:
            return
        zero = (self._input.start_time or 0) / av.time_base
        track = self._input.streams.audio[0]
        if track.codec.canonical_name in _TAKEN_AS_IT_IS[suffix]:
            self._copy = output.add_stream_from_template(track)
            self._items = _packets(self._input, track, zero)
        else:
            self._encoder = _aac_stream(output, track.codec_context)
            self._items = _frames(self._input, track, zero, self._encoder.codec_context)

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
        except (FFmpegError, OSError) as error:
            self._items = iter(())
            self.lost = f"Part of the sound of {self._source.name} was left out: {error.strerror}."
            return None


_Items = Iterator[tuple[float, Packet | AudioFrame]]  # each with the second at which it begins


def _packets(container: InputContainer, track: AudioStream, zero: float) -> _Items:
    """The packets as they are, moved so that the file begins at 0."""
    for packet in container.demux(track):
        if packet.pts is None or packet.dts is None:
            continue  # the empty packet that ends a stream
        shift = round(zero / packet.time_base)
        packet.pts -= shift
        packet.dts -= shift
        yield float(packet.pts * packet.time_base), packet


def _frames(container: InputContainer, track: AudioStream, zero: float, encoder: AudioCodecContext) -> _Items:
    """The decoded sound in the encoder's format, moved so that the file begins at 0."""
    resampler = AudioResampler(format=encoder.format, layout=encoder.layout, rate=encoder.sample_rate)
    for decoded in container.decode(track):
        if decoded.pts is None or decoded.time_base is None:
            continue
        decoded.pts -= round(zero / decoded.time_base)
        for frame in resampler.resample(decoded):
            yield float((frame.pts or 0) * (frame.time_base or 0)), frame


def _aac_stream(output: OutputContainer, source: AudioCodecContext) -> AudioStream:
    stream = output.add_stream("aac", rate=min(source.sample_rate, _HIGHEST_RATE))
    # Not the source's own layout: raw sound often does not say which of its channels is which.
    stream.codec_context.layout = "mono" if source.layout.nb_channels == 1 else "stereo"
    stream.codec_context.format = "fltp"
    return stream
