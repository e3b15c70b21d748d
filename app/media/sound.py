"""Sound in one format and on one clock of samples, whatever the file does with its formats and times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler

_TOLERANCE = 0.04  # seconds; times are rounded, and no ear finds less than this between sound and picture
_FORMAT = "fltp"  # floating point, each channel by itself: what FFmpeg's AAC encoder takes


class EvenSound:
    """Decoded frames to frames in the format ``fltp``, each of which begins where the one before it ended.

    Where the file's times leave a gap there is silence, and what overlaps is cut off, so that sound stays with its
    pictures. Layout, rate and format of the samples may change from frame to frame. What is no number is silence.

    Args:
        layout: of the channels that come out, as ``stereo``.
        rate: samples a second that come out.
    """

    def __init__(self, layout: str, rate: int) -> None:
        self._layout = AudioLayout(layout)
        self._rate = rate
        self._resampler: AudioResampler | None = None
        self._takes: tuple[str, str, int] | None = None
        self._next: int | None = None  # the sample with which the next frame begins, counted from media time 0
        self._overlap = 0  # samples to come that were there already

    def __call__(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """What ``frame`` becomes. Raises ``MEDIA_ERRORS`` where it cannot be converted."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._takes or self._resampler is None:
            yield from self.flush()
            self._takes = kind
            self._resampler = AudioResampler(AudioFormat(_FORMAT), self._layout, self._rate)
        if frame.pts is not None and frame.time_base:
            yield from self._move_to(round(frame.pts * float(frame.time_base) * self._rate))
        for resampled in self._resampler.resample(frame):
            yield from self._placed(resampled.to_ndarray())

    def flush(self) -> Iterator[AudioFrame]:
        """What is still to come after the last frame, or the last one of a format."""
        last, self._resampler = self._resampler, None
        if last is not None:
            for resampled in last.resample(None):
                if resampled is not None:
                    yield from self._placed(resampled.to_ndarray())

    def _move_to(self, begin: int) -> Iterator[AudioFrame]:
        """Have the next samples begin at ``begin``, by silence before them or by leaving out the first of them."""
        if self._next is None:
            self._next = begin
        gap = begin - self._next
        if abs(gap) <= _TOLERANCE * self._rate:
            return
        while gap > 0:
            part = min(gap, self._rate)
            yield from self._placed(np.zeros((self._layout.nb_channels, part), np.float32))
            gap -= part
        self._overlap = -gap

    def _placed(self, samples: np.ndarray) -> Iterator[AudioFrame]:
        """``samples`` (channels, n) as a frame, without those that overlap, or lie before media time 0."""
        known = min(samples.shape[1], self._overlap)
        self._overlap -= known
        begin = self._next or 0
        self._next = begin + samples.shape[1] - known
        early = max(0, -begin)
        kept = np.ascontiguousarray(samples[:, known + early :], np.float32)
        if not kept.shape[1]:
            return
        heard = np.clip(np.nan_to_num(kept), -1, 1)  # what is louder than full is not to be heard, nor to be encoded
        placed = AudioFrame.from_ndarray(heard, format=_FORMAT, layout=self._layout.name)
        placed.sample_rate, placed.time_base, placed.pts = self._rate, Fraction(1, self._rate), begin + early
        yield placed
