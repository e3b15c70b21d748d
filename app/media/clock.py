"""One clock for all streams of a file, without gaps and restarts that only the file's own clock has.

Files are joined with ``cat``, recorders are started again, receivers lose packets: the clock in the file then goes back
or leaps ahead, though what is to be seen and heard simply goes on. The clock here goes on, too. It is made of the times
of all packets in the order in which they lie in the file, so that two readers of the same streams find the same times.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAP_SECONDS = 10.0  # in formats that are received or joined; FFmpeg's limit as well (its option dts_delta_threshold)
LONGEST_GAP = 3600.0  # in all others, where a picture may well stand for minutes
_BACK_SECONDS = 0.1  # less than this is disorder among packets and no new beginning; FFmpeg's limit as well
_REORDERED_SECONDS = 0.5  # the same for pictures by the times at which they are shown, in the order of their decoding
_APART_SECONDS = 1.0  # streams of one recording end within this, as a rule


@dataclass(slots=True)
class _Piece:
    """A part of the file with one clock: its times plus ``shift`` are ours; ``front`` is the latest of its times."""

    shift: float
    front: float


@dataclass(slots=True)
class _Track:
    """Where one stream is: its piece, and begin and end of its last packet by the clock of that piece."""

    piece: int
    last: float
    end: float
    step: float
    in_order: bool


class ContinuousClock:
    """Turns the times in a file, in seconds, into times that go on.

    A packet begins a new piece if it lies before the last one of its stream, or further ahead than ``leap`` of
    everything that was read. Then its stream goes on where it was, and the other streams follow with the same shift, so
    that sound and pictures stay together. A stream that is silent for a while, as others go on, begins no new piece.

    Attributes:
        joints: how many new pieces there were so far.
        leap: as given.

    Args:
        zero: the time in the file that is to be 0.
        leap: seconds ahead that are a gap still, and no new clock.
        sure: whether ``zero`` is known. Else, where the first packet is further than ``leap`` from it, that packet's
            time is 0.
    """

    def __init__(self, zero: float = 0.0, *, leap: float = LONGEST_GAP, sure: bool = False) -> None:
        self.joints = 0
        self._zero = zero
        self.leap = leap
        self._sure = sure
        self._pieces: list[_Piece] = []
        self._tracks: dict[int, _Track] = {}

    @property
    def zero(self) -> float:
        """The time in the file that is 0 here, by its first piece."""
        return self._zero

    def shift(self, stream: int, begin: float, length: float, *, in_order: bool = True) -> float:
        """What to add to the times of this packet.

        Args:
            stream: any number that stands for the packet's stream.
            begin: when it is decoded, or shown, by the file's clock; finite.
            length: how long it lasts; 0 where the file does not say.
            in_order: whether ``begin`` is the time at which it is decoded, which never goes back in a sound file.
        """
        track = self._tracks.get(stream)
        in_order_since = in_order and (track is None or track.in_order)
        piece = self._piece_of(track, begin, _BACK_SECONDS if in_order_since else _REORDERED_SECONDS)
        if track is not None and track.piece == piece and begin > track.last:
            track.step = begin - track.last
        step = track.step if track is not None else 0.0
        end = begin + (length if 0 < length <= self.leap else step)
        self._tracks[stream] = _Track(piece, begin, end, step, in_order)
        where = self._pieces[piece]
        where.front = max(where.front, begin)
        return where.shift

    def _piece_of(self, track: _Track | None, begin: float, back: float) -> int:
        newest = len(self._pieces) - 1
        if newest < 0:
            if not self._sure and abs(begin - self._zero) > self.leap:
                self._zero = begin
            self._pieces.append(_Piece(-self._zero, begin))
            return 0
        if track is None:
            return newest if self._is_near(newest, begin) else self._begin_piece(None, begin)
        ahead = begin - max(track.end, self._pieces[track.piece].front)
        if begin >= track.last - back and ahead <= self.leap:
            return track.piece
        # Another stream may have gone on to a new piece already. It must not lead this one back, however.
        goes_on = begin + self._pieces[newest].shift >= self._end_of(track) - _APART_SECONDS
        if track.piece < newest and goes_on and self._is_near(newest, begin):
            return newest
        return self._begin_piece(track, begin)

    def _is_near(self, piece: int, begin: float) -> bool:
        return abs(begin - self._pieces[piece].front) <= self.leap

    def _begin_piece(self, track: _Track | None, begin: float) -> int:
        end = max((self._end_of(other) for other in self._tracks.values()), default=0.0)
        if track is not None and end - self._end_of(track) <= _APART_SECONDS:
            end = self._end_of(track)
        self._pieces.append(_Piece(end - begin, begin))
        self.joints += 1
        return len(self._pieces) - 1

    def _end_of(self, track: _Track) -> float:
        return track.end + self._pieces[track.piece].shift
