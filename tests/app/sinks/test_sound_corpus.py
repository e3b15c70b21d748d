"""Any sound in: it stays with its pictures through all changes of format and clock, or a sentence says what is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from app.sinks import VideoSink
from app.sources.video import VideoSource
from tests.app.media import as_float, cards, frames_of, write_clip
from tests.corpus_video import (
    FPS,
    HEIGHT,
    RATE,
    WIDTH,
    joined,
    new_sound,
    new_video,
    sound_frame,
    tone,
    transport_stream,
)


@dataclass(frozen=True)
class Case:
    """A clip with sound, and what of it must be in a rendered file.

    Attributes:
        make: writes the clip into a folder, and says where.
        heard: seconds, from when until when there is sound; with a pause in it, several of them. Empty: there is none.
        layout: of the channels that come out.
        codec: of the sound that comes out.
        frames: how many pictures come out.
        lost: words of what must be told; "" for nothing.
    """

    name: str
    make: Callable[[Path], Path]
    heard: list[tuple[float, float]]
    layout: str = "mono"
    codec: str = "aac"
    frames: int = 50
    lost: str = ""
    suffix: str = ".mp4"


def clip(
    samples: np.ndarray, codec: str = "pcm_f32le", *, start: float = 0.0, rate: int = RATE, name: str = "a.mkv"
) -> Callable[[Path], Path]:
    """Two seconds of pictures, with these samples from ``start`` seconds on."""

    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            video = new_video(container, "libx264", WIDTH, HEIGHT)
            audio = new_sound(container, codec, samples.shape[0], rate)
            write_pictures(container, video)
            for at in range(0, samples.shape[1], 1024):
                container.mux(audio.encode(sound_frame(samples[:, at : at + 1024], round(start * rate) + at, rate)))
            container.mux(audio.encode(None))
        return folder / name

    return make


def write_pictures(container: OutputContainer, video: VideoStream) -> None:
    for number, picture in enumerate(cards(50, WIDTH, HEIGHT)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def with_gap(begin: float) -> Callable[[Path], Path]:
    """Half a second of sound, and half a second of it from ``begin`` seconds on."""

    def make(folder: Path) -> Path:
        with av.open(str(folder / "a.mkv"), "w") as container:
            video, audio = new_video(container, "libx264", WIDTH, HEIGHT), new_sound(container, "pcm_f32le", 1)
            write_pictures(container, video)
            for start in (0.0, begin):
                for at in range(0, RATE // 2, 1000):
                    piece = tone(0.5)[:, at : at + 1000]
                    container.mux(audio.encode(sound_frame(piece, round(start * RATE) + at)))
            container.mux(audio.encode(None))
        return folder / "a.mkv"

    return make


def with_two_tracks(first: int, second: int) -> Callable[[Path], Path]:
    """Silence in one track, sound in the other; ``first`` and ``second`` say what they are for."""

    def make(folder: Path) -> Path:
        with av.open(str(folder / "a.mkv"), "w") as container:
            video = new_video(container, "libx264", WIDTH, HEIGHT)
            tracks = [new_sound(container, "pcm_f32le", 1) for _ in range(2)]
            for track, meant in zip(tracks, (first, second), strict=True):
                track.disposition = Disposition(meant)
            write_pictures(container, video)
            for track, loud in zip(tracks, (0, 1), strict=True):
                for at in range(0, 2 * RATE, 1000):
                    container.mux(track.encode(sound_frame(loud * tone(2.0)[:, at : at + 1000], at)))
                container.mux(track.encode(None))
        return folder / "a.mkv"

    return make


def parts(folder: Path, *starts: float, **more: object) -> list[Path]:
    shown = cards(25 * len(starts), WIDTH, HEIGHT)
    return [
        transport_stream(folder / f"{place}.ts", shown[25 * place : 25 * place + 25], start=start, **more)  # type: ignore[arg-type]
        for place, start in enumerate(starts)
    ]


def other(folder: Path, start: float = 1.0, **more: object) -> Path:
    return transport_stream(folder / "other.ts", cards(25, WIDTH, HEIGHT), start=start, **more)  # type: ignore[arg-type]


def with_nan(folder: Path) -> Path:
    samples = tone(2.0)
    samples[0, RATE : RATE + 100] = (np.nan, np.inf, -np.inf, 1e30) * 25
    return clip(samples)(folder)


def cut_short(folder: Path) -> Path:
    path = write_clip(folder / "a.mkv", cards(50), fps=FPS, sound="flac", sound_seconds=2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    return path


_ALL = [(0.0, 2.0)]
CASES = [
    Case("AAC in MP4", clip(tone(2.0), "aac", name="a.mp4"), _ALL),
    Case("MP3", clip(tone(2.0), "libmp3lame"), _ALL, codec="mp3"),
    Case("MP3 into Matroska", clip(tone(2.0), "libmp3lame"), _ALL, codec="mp3", suffix=".mkv"),
    Case("Opus into Matroska", clip(tone(2.0), "libopus"), _ALL, codec="opus", suffix=".mkv"),
    Case("floats", clip(tone(2.0)), _ALL),
    Case("floats into Matroska", clip(tone(2.0)), _ALL, suffix=".mkv"),
    Case("44.1 kHz", clip(tone(2.0, rate=44_100), rate=44_100), _ALL),
    Case("96 kHz", clip(tone(2.0, rate=96_000), rate=96_000), _ALL),
    Case("a rate that AAC does not know", clip(tone(2.0, rate=37_800), rate=37_800), _ALL),
    Case("8 kHz", clip(tone(2.0, rate=8_000), rate=8_000), _ALL),
    Case("5.1", clip(tone(2.0, 6), "flac", name="a.mkv"), _ALL, layout="5.1 or stereo", codec="flac or aac"),
    Case("begins at 0.3 s", clip(tone(1.7), start=0.3), [(0.3, 2.0)]),
    Case("begins at 0.3 s, AAC", clip(tone(1.7), "aac", start=0.3), [(0.3, 2.0)]),
    Case("begins before the pictures", clip(tone(2.5), start=-0.5, name="a.nut"), [(0.0, 2.5)]),
    Case("longer than the pictures", clip(tone(5.0)), _ALL),
    Case("shorter than the pictures", clip(tone(0.7)), [(0.0, 0.7)]),
    Case("a gap", with_gap(1.2), [(0.0, 0.5), (1.2, 1.7)]),
    Case("two that overlap", lambda f: joined(f / "x.ts", *parts(f, 0, 0.5)), _ALL, layout="stereo"),
    Case("two that overlap by a picture", lambda f: joined(f / "x.ts", *parts(f, 0, 0.96)), _ALL, layout="stereo"),
    Case("what is no number", with_nan, _ALL),
    Case("the second track is the default", with_two_tracks(0, Disposition.default), _ALL),
    Case("the first track is a commentary", with_two_tracks(Disposition.comment, 0), _ALL),
    Case("the first track is for the blind", with_two_tracks(Disposition.visual_impaired, 0), _ALL),
    Case("joined, the clock begins anew", lambda f: joined(f / "x.ts", *parts(f, 0, 0)), _ALL, layout="stereo"),
    Case(
        "joined, into Matroska",
        lambda f: joined(f / "x.ts", *parts(f, 0, 36_000)),
        _ALL,
        layout="stereo",
        suffix=".mkv",
    ),
    Case("joined, the clock leaps", lambda f: joined(f / "x.ts", *parts(f, 0, 36_000)), _ALL, layout="stereo"),
    Case("joined, the clock goes back", lambda f: joined(f / "x.ts", *parts(f, 36_000, 0)), _ALL, layout="stereo"),
    Case(
        "mono, then stereo",
        lambda f: joined(f / "x.ts", *parts(f, 0, sound="mp2"), other(f, sound="mp2", channels=2)),
        _ALL,
        layout="stereo",
    ),
    Case(
        "48, then 44.1 kHz",
        lambda f: joined(f / "x.ts", *parts(f, 0, sound="mp2"), other(f, sound="mp2", rate=44_100)),
        _ALL,
        layout="stereo",
    ),
    Case(
        "AAC in mono, then stereo, the clock anew",
        lambda f: joined(f / "x.ts", *parts(f, 0), other(f, start=0.0, channels=2, rate=44_100)),
        _ALL,
        layout="stereo",
    ),
    Case(
        "the first part is silent",
        lambda f: joined(f / "x.ts", *parts(f, 0, loud=0.0), other(f)),
        [(1.0, 2.0)],
        layout="stereo",
    ),
    Case("cut short", cut_short, [], layout="any", codec="any", frames=-1),
    Case("no sound", lambda f: transport_stream(f / "a.ts", cards(50, WIDTH, HEIGHT), sound=None), [], codec=""),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_sound_stays_with_its_pictures(tmp_path: Path, case: Case):
    source = case.make(tmp_path)
    sink = VideoSink(tmp_path / f"out{case.suffix}", audio_from=source)
    sink.open()
    for frame in frames_of(VideoSource(source)):
        sink.write(frame)
    sink.close()
    assert (case.lost or "None") in str(sink.lost)
    with av.open(str(tmp_path / f"out{case.suffix}")) as made:
        assert sum(packet.size > 0 for packet in made.demux(video=0)) == case.frames or case.frames < 0
        if not case.codec:
            assert not made.streams.audio
            return
        assert made.streams.audio[0].codec.canonical_name in case.codec or case.codec == "any"
        assert made.streams.audio[0].codec_context.layout.name in case.layout or case.layout == "any"
    found = heard(tmp_path / f"out{case.suffix}")
    assert len(found) == len(case.heard) or case.layout == "any"
    for (begin, end), (right_begin, right_end) in zip(found, case.heard, strict=False):
        # AAC begins with what it needs to get going, and MP3 as well: half a picture, at most.
        assert begin == pytest.approx(right_begin, abs=0.06)
        assert end == pytest.approx(right_end, abs=0.12)


def heard(path: Path) -> list[tuple[float, float]]:
    """From when until when there is sound, in seconds of the file; pauses of less than 0.1 s count as sound."""
    spans: list[list[float]] = []
    with av.open(str(path)) as container:
        zero = (container.start_time or 0) / av.time_base
        for frame in container.decode(audio=0):
            begin = float(frame.time or 0) - zero
            for place in np.flatnonzero(np.abs(as_float(frame)).max(axis=0) > 0.1):
                at = begin + int(place) / frame.sample_rate
                if spans and at - spans[-1][1] < 0.1:
                    spans[-1][1] = at
                else:
                    spans.append([at, at])
    return [(begin, end) for begin, end in spans]


def test_nothing_of_the_sound_is_read_from_what_is_no_file(tmp_path: Path):
    (tmp_path / "folder.mp4").mkdir()
    sink = VideoSink(tmp_path / "out.mp4", audio_from=tmp_path / "folder.mp4")
    sink.open()
    for frame in frames_of(VideoSource(write_clip(tmp_path / "in.mp4", cards(3)))):
        sink.write(frame)
    sink.close()
    assert sink.lost == "The sound of folder.mp4 was left out: it is no file but a folder."


def test_the_sound_of_a_codec_without_a_decoder_is_left_out_and_told(tmp_path: Path):
    path = write_clip(tmp_path / "in.mkv", cards(10), sound="flac", sound_seconds=1)
    path.write_bytes(path.read_bytes().replace(b"A_FLAC", b"A_ZZZZ"))
    sink = VideoSink(tmp_path / "out.mp4", audio_from=path)
    sink.open()
    for frame in frames_of(VideoSource(path)):
        sink.write(frame)
    sink.close()
    assert sink.lost == "The sound of in.mkv was left out: its codec cannot be decoded here."
