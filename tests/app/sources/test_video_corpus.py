"""Any clip in, every frame out: what is right for each of a hundred files, or the one sentence that says why not."""

from __future__ import annotations

import itertools
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from app.frame import Frame
from app.sources import SourceError
from app.sources.testcard import read_index
from app.sources.video import VideoSource
from tests.app.media import cards, frames_of, write_clip
from tests.corpus_video import (
    FPS,
    HEIGHT,
    WIDTH,
    Tiles,
    add_sound,
    box,
    bt2020,
    combing,
    corners,
    flat_yuv,
    heic,
    hlg,
    interlaced,
    joined,
    new_sound,
    new_video,
    pq,
    quarters,
    song,
    sound_frame,
    tone,
    transport_stream,
    two_films,
    with_matrix,
)


@dataclass(frozen=True)
class Case:
    """A file, and what is right for it. What is None is not looked at.

    Attributes:
        make: writes the file into a folder, and says where.
        says: words of the error that it must raise; it has no frames then.
        numbers: those that the frames show, in order.
        times: of the frames in seconds.
        size: (width, height) of the first frame; ``last_size`` of the last.
        corners: the four colours of the first frame.
        colour: that of the middle of the first frame, each within ``within``.
        combing: how far lines of the frames but the first may differ from their neighbours.
        lost: words of what must be told of damage; "" for nothing.
    """

    name: str
    make: Callable[[Path], Path]
    says: str | None = None
    numbers: list[int] | None = None
    times: list[float] | None = None
    size: tuple[int, int] | None = None
    last_size: tuple[int, int] | None = None
    corners: str | None = None
    colour: tuple[int, int, int] | None = None
    within: int = 8
    combing: float | None = None
    lost: str = ""
    frame_count: int | None = field(default=None)


def even(count: int, start: float = 0.0) -> list[float]:
    return [start + number / FPS for number in range(count)]


# Every container and codec that this FFmpeg can also write.

_PLAIN = [
    ("h264.mp4", "libx264"),
    ("h264.mov", "libx264"),
    ("h264.mkv", "libx264"),
    ("h264.avi", "libx264"),
    ("h264.flv", "libx264"),
    ("h264.3gp", "libx264"),
    ("mpeg4.mp4", "mpeg4"),
    ("mpeg4.avi", "mpeg4"),
    ("mjpeg.avi", "mjpeg"),
    ("mjpeg.mov", "mjpeg"),
    ("vp8.webm", "libvpx"),
    ("vp9.webm", "libvpx-vp9"),
    ("ffv1.mkv", "ffv1"),
    ("huffyuv.avi", "huffyuv"),
    ("flv1.flv", "flv"),
    ("wmv2.asf", "wmv2"),
    ("mpeg2.mpg", "mpeg2video"),
    ("mpeg2.mkv", "mpeg2video"),
    ("h264.ts", "libx264"),
    ("mpeg2.ts", "mpeg2video"),
    ("raw.nut", "rawvideo"),
    ("prores.mov", "prores_ks"),
    ("utvideo.avi", "utvideo"),
    ("hevc.mkv", "libx265"),
]


def plain(name: str, codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            formats = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p", "prores_ks": "yuv422p10le"}
            stream = new_video(container, codec, WIDTH, HEIGHT, formats.get(codec, "yuv420p"))
            stream.codec_context.bit_rate = 4_000_000
            if codec == "libx265":
                stream.codec_context.options = {"x265-params": "log-level=none"}
            for number, picture in enumerate(cards(6, WIDTH, HEIGHT)):
                frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return folder / name

    return make


# AVI says in which order pictures are decoded, and not when they are shown.
_UNTIMED = {"h264.avi"}
PLAIN = [
    Case(name, plain(name, codec), numbers=list(range(6)), times=None if name in _UNTIMED else even(6))
    for name, codec in _PLAIN
]


# Orientation: eight ways to lay down a picture, and what lies between.

_LAID_DOWN = {
    "as it is": ((1, 0, 0, 1), "red lime blue white"),
    "turned right": ((0, 1, -1, 0), "blue red white lime"),
    "turned round": ((-1, 0, 0, -1), "white blue lime red"),
    "turned left": ((0, -1, 1, 0), "lime white red blue"),
    "mirrored": ((-1, 0, 0, 1), "lime red white blue"),
    "upside down": ((1, 0, 0, -1), "blue white red lime"),
    "transposed": ((0, 1, 1, 0), "red blue lime white"),
    "transposed and turned round": ((0, -1, -1, 0), "white lime blue red"),
    "nothing at all": ((0, 0, 0, 0), "red lime blue white"),
}


def laid_down(*matrix: int) -> Callable[[Path], Path]:
    return lambda folder: with_matrix(write_clip(folder / "clip.mp4", [quarters()] * 2, fps=FPS), *matrix)


ORIENTATION = [
    Case(f"matrix: {name}", laid_down(*matrix), corners=right, size=(64, 96) if matrix[1] else (96, 64))
    for name, (matrix, right) in _LAID_DOWN.items()
]


def photo(width: int = 120, height: int = 100, **more: object) -> Callable[[Path], Path]:
    return lambda folder: heic(folder / "photo.heic", Tiles(quarters(width, height), **more))  # type: ignore[arg-type]


def turns(*payloads: tuple[bytes, int]) -> tuple[bytes, ...]:
    return tuple(box(kind, bytes([value])) for kind, value in payloads)


PHOTOS = [
    Case("grid of 2 x 2", photo(), corners="red lime blue white", size=(120, 100), frame_count=1, times=[0.0]),
    Case("grid of 1 x 3", photo(190, 64, rows=1, columns=3), corners="red lime blue white", size=(190, 64)),
    Case("grid without an edge", photo(128, 128), corners="red lime blue white", size=(128, 128)),
    Case("grid turned left", photo(properties=turns((b"irot", 1))), corners="lime white red blue", size=(100, 120)),
    Case("grid turned round", photo(properties=turns((b"irot", 2))), corners="white blue lime red", size=(120, 100)),
    Case("grid mirrored", photo(properties=turns((b"imir", 1))), corners="lime red white blue", size=(120, 100)),
    Case("grid upside down", photo(properties=turns((b"imir", 0))), corners="blue white red lime", size=(120, 100)),
    Case(
        "grid turned left, then mirrored",
        photo(properties=turns((b"irot", 1), (b"imir", 1))),
        corners="white lime blue red",
        size=(100, 120),
    ),
    Case("grid without its last tile", photo(leave_out=1), says="photo of tiles that cannot be put together"),
    Case("grid larger than its tiles", photo(claimed=(200, 100)), says="photo of tiles that cannot be put together"),
]


# Clocks that begin anew, leap, stand still.


def parts(folder: Path, *starts: float, **more: object) -> list[Path]:
    """Transport streams of 25 pictures each, which count on, with clocks that begin at ``starts``."""
    shown = cards(25 * len(starts), WIDTH, HEIGHT)
    return [
        transport_stream(folder / f"{place}.ts", shown[25 * place : 25 * place + 25], start=start, **more)  # type: ignore[arg-type]
        for place, start in enumerate(starts)
    ]


def cat(*starts: float, **more: object) -> Callable[[Path], Path]:
    return lambda folder: joined(folder / "joined.ts", *parts(folder, *starts, **more))


def with_pause(seconds: float) -> Callable[[Path], Path]:
    return lambda folder: transport_stream(folder / "a.ts", cards(20, WIDTH, HEIGHT), sound=None, pause=(10, seconds))


def at_times(name: str, times: list[float]) -> Callable[[Path], Path]:
    return lambda folder: write_clip(folder / name, cards(len(times)), fps=FPS, times=times)


def without_a_packet(folder: Path) -> Path:
    """A transport stream that lacks one of its 188 bytes in the middle, as receivers lose them."""
    path = transport_stream(folder / "a.ts", cards(30, WIDTH, HEIGHT), sound=None)
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    pictures = [number for number, packet in enumerate(packets) if packet[1] & 0x1F == 1 and not packet[1] & 0x40]
    del packets[pictures[len(pictures) // 2]]
    path.write_bytes(b"".join(packets))
    return path


_ONE = {"numbers": list(range(25)), "times": even(25)}
_TWO = {"numbers": list(range(50)), "times": even(50)}
CLOCKS = [
    Case("joined, the clock begins anew", cat(0, 0), **_TWO, frame_count=50),
    Case("joined, without sound", cat(0, 0, sound=None), **_TWO, frame_count=50),
    Case("joined of three", cat(0, 0, 0), numbers=list(range(75)), times=even(75), frame_count=75),
    Case("joined, the clock goes on", cat(0, 1), **_TWO),
    Case("joined, the clock leaps by 10 hours", cat(0, 36_000), **_TWO, frame_count=50),
    Case("joined, the clock leaps by 30 s", cat(0, 30), **_TWO, frame_count=50),
    Case("joined, the clock goes back by 10 hours", cat(36_000, 0), **_TWO, frame_count=50),
    Case("joined, there and back", cat(0, 36_000, 1), numbers=list(range(75)), times=even(75), frame_count=75),
    Case("begins at 10 hours", cat(36_000), **_ONE, frame_count=25),
    Case("joined MPEG-2", cat(0, 0, codec="mpeg2video", sound="mp2"), **_TWO),
    Case("mono, then stereo", lambda f: joined(f / "x.ts", *parts(f, 0), other_sound(f)), **_TWO),
    Case(
        "size changes midway",
        lambda f: joined(f / "x.ts", *parts(f, 0), transport_stream(f / "b.ts", cards(15, 160, 96), start=1.0)),
        numbers=[*range(25), *range(15)],
        times=even(40),
        size=(WIDTH, HEIGHT),
        last_size=(160, 96),
    ),
    Case(
        "shape of the pixels changes midway",
        lambda f: joined(
            f / "x.ts",
            *parts(f, 0, aspect=Fraction(1, 1)),
            transport_stream(f / "b.ts", cards(15, WIDTH, HEIGHT), start=1.0, aspect=Fraction(2, 1)),
        ),
        times=even(40),
        size=(WIDTH, HEIGHT),
        last_size=(2 * WIDTH, HEIGHT),
    ),
    Case("a pause of 5 s stays", with_pause(5), times=[*even(10), *even(10, 5.4)]),
    Case("a pause of 20 s in what is received", with_pause(20), times=even(20)),
    Case("a picture that stands for 10 minutes", at_times("a.mkv", [0, 0.04, 600]), times=[0, 0.04, 600]),
    Case("a leap of 10 hours in Matroska", at_times("a.mkv", [0, 0.04, 36_000, 36_000.04]), times=even(4)),
    Case("a leap of 10 hours in MP4", at_times("a.mp4", [0, 0.04, 36_000, 36_000.04]), times=even(4)),
    Case("variable rate", at_times("a.mkv", [0, 0.1, 0.15, 0.5, 0.52]), times=[0, 0.1, 0.15, 0.5, 0.52]),
    Case("begins at 5 s", at_times("a.ts", [5 + n / FPS for n in range(6)]), times=even(6)),
    Case("a packet is lost", without_a_packet, lost="about \\d+ frames? (is|are) lost"),
]


def other_sound(folder: Path) -> Path:
    return transport_stream(
        folder / "stereo.ts", cards(50, WIDTH, HEIGHT)[25:], start=1.0, sound="mp2", channels=2, rate=44_100
    )


# What the samples mean.


def flat(light: tuple[float, ...], transfer: int) -> Callable[[Path], Path]:
    signal = hlg if transfer == 18 else pq
    return lambda folder: flat_yuv(folder / "flat.mkv", bt2020(light, signal), transfer=transfer, primaries=9, matrix=9)


def sdr(yuv: tuple[int, int, int], *, primaries: int, matrix: int) -> Callable[[Path], Path]:
    return lambda folder: flat_yuv(folder / "flat.mkv", yuv, transfer=1, primaries=primaries, matrix=matrix)


def of_rgb(codec: str, pix_fmt: str, rgb: tuple[int, int, int], name: str = "flat.mkv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            stream = new_video(container, codec, 64, 64, pix_fmt)
            if codec == "libx264" or codec == "libx264rgb":
                stream.codec_context.options = {"crf": "4"}
            frame = VideoFrame.from_ndarray(np.full((64, 64, 3), rgb, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
            container.mux(stream.encode(None))
        return folder / name

    return make


_BRICK = (200, 80, 40)
COLOURS = [
    Case("HLG red", flat((1, 0, 0), 18), colour=(231, 0, 0), within=12),
    Case("HLG white", flat((1, 1, 1), 18), colour=(231, 231, 231)),
    Case("HLG black", flat((0, 0, 0), 18), colour=(0, 0, 0)),
    Case("HLG highlight", flat((3.7, 3.7, 3.7), 18), colour=(255, 255, 255)),
    Case("PQ red", flat((1, 0, 0), 16), colour=(229, 0, 0), within=12),
    Case("PQ green", flat((0, 1, 0), 16), colour=(0, 229, 0), within=12),
    Case("PQ white", flat((1, 1, 1), 16), colour=(229, 229, 229)),
    Case("PQ black", flat((0, 0, 0), 16), colour=(0, 0, 0)),
    Case("PQ highlight", flat((4.9, 4.9, 4.9), 16), colour=(255, 255, 255)),
    # Red, green and grey of BT.709 under BT.2020's primaries, from BT.2087 and the sRGB curve.
    Case("BT.2020 without HDR: grey", sdr((502, 512, 512), primaries=9, matrix=9), colour=(128, 128, 128)),
    Case("BT.709 grey", sdr((502, 512, 512), primaries=1, matrix=1), colour=(128, 128, 128)),
    Case("BT.709 red", sdr((250, 409, 960), primaries=1, matrix=1), colour=(255, 0, 0)),
    Case("RGB in H.264", of_rgb("libx264rgb", "rgb24", _BRICK), colour=_BRICK),
    Case("4:4:4", of_rgb("libx264", "yuv444p", _BRICK), colour=_BRICK),
    Case("4:2:2, 10 bits", of_rgb("ffv1", "yuv422p10le", _BRICK), colour=_BRICK),
    Case("full range", of_rgb("mjpeg", "yuvj420p", _BRICK, "flat.avi"), colour=_BRICK),
    Case("palette", of_rgb("gif", "rgb8", (255, 255, 255), "flat.gif"), colour=(255, 255, 255)),
    Case("animation of QuickTime", of_rgb("qtrle", "rgb24", _BRICK, "flat.mov"), colour=_BRICK),
    Case("grey", of_rgb("ffv1", "gray", (90, 90, 90)), colour=(90, 90, 90)),
    Case("grey of 16 bits", of_rgb("ffv1", "gray16le", (90, 90, 90)), colour=(90, 90, 90)),
]

FIELDS = [
    Case("interlaced H.264", lambda f: interlaced(f / "a.mp4", "libx264"), times=even(12), combing=1.0),
    Case("interlaced MPEG-2", lambda f: interlaced(f / "a.mpg", "mpeg2video"), times=even(12), combing=1.0),
    Case(
        "interlaced, then not",
        lambda f: joined(
            f / "x.mpg", interlaced(f / "a.mpg", "mpeg2video"), interlaced(f / "b.mpg", "mpeg2video", marked=False)
        ),
        times=even(24),
    ),
]


# Which stream is the film, and what there is no film in.


def with_sound_first(folder: Path) -> Path:
    with av.open(str(folder / "a.mkv"), "w") as container:
        sound, stream = new_sound(container, "aac", 1), new_video(container, "libx264", WIDTH, HEIGHT)
        container.mux(sound.encode(sound_frame(tone(0.3), 0)))
        container.mux(sound.encode(None))
        for number, picture in enumerate(cards(8, WIDTH, HEIGHT)):
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return folder / "a.mkv"


def only_sound(name: str, codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with av.open(str(folder / name), "w") as container:
            add_sound(container, codec, tone(0.5))
        return folder / name

    return make


def renamed_codec(tag: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_clip(folder / "a.mp4", cards(4))
        path.write_bytes(path.read_bytes().replace(b"avc1", tag))
        return path

    return make


TRACKS = [
    Case("MP3 with a cover", lambda f: song(f / "song.mp3", "libmp3lame"), says="only sound and a cover"),
    Case("FLAC with a cover", lambda f: song(f / "song.flac", "flac"), says="only sound and a cover"),
    Case("M4A", only_sound("song.m4a", "aac"), says="no video in it, only sound"),
    Case("Ogg", only_sound("song.ogg", "libopus"), says="no video in it, only sound"),
    Case("a still before the film", lambda f: two_films(f / "a.mkv", still=True), numbers=list(range(8))),
    Case("a default still", lambda f: two_films(f / "a.mkv", still=True, default=0), numbers=list(range(8))),
    Case("the second is the default", lambda f: two_films(f / "a.mkv", still=False, default=1), numbers=list(range(8))),
    Case(
        "the first is the default",
        lambda f: two_films(f / "a.mkv", still=False, default=0),
        corners="red lime blue white",
    ),
    Case("sound before the film", with_sound_first, numbers=list(range(8)), times=even(8)),
    Case("ProRes RAW", renamed_codec(b"aprn"), says="prores_raw"),
    Case("protected", renamed_codec(b"drmi"), says=r"cannot be decoded here \(drmi\)"),
    Case("encrypted", renamed_codec(b"encv"), says=r"cannot be decoded here \(encv\)"),
    Case("a codec of no one", renamed_codec(b"zzzz"), says=r"cannot be decoded here \(zzzz\)"),
]


# Files that are cut, torn, no files at all.


def cut(name: str, share: float, **more: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write_clip(folder / name, cards(48), **more)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make


def containing(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def fragmented(folder: Path) -> Path:
    options = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    return write_clip(folder / "a.mp4", cards(16), fps=FPS, options=options)


def without_length(folder: Path) -> Path:
    """As browsers record: a WebM that does not know how long it is."""
    return write_clip(folder / "a.webm", cards(8), fps=FPS, codec="libvpx", options={"live": "1"})


def folder_named(folder: Path) -> Path:
    (folder / "clip.mp4").mkdir()
    return folder / "clip.mp4"


_FAST = {"options": {"movflags": "faststart"}}
DAMAGE = [
    Case("cut MP4", cut("a.mp4", 0.6, **_FAST), lost="is damaged or cut short"),
    Case("cut Matroska", cut("a.mkv", 0.6), lost="is damaged or cut short"),
    Case("cut AVI", cut("a.avi", 0.6), lost="is damaged or cut short"),
    Case("cut FLV", cut("a.flv", 0.6), lost="is damaged or cut short"),
    Case("MP4 without its index", cut("a.mp4", 0.5), says="is not a video that can be read"),
    Case("fragmented MP4", fragmented, numbers=list(range(16)), times=even(16)),
    Case("WebM without a length", without_length, numbers=list(range(8)), times=even(8)),
    Case("raw H.264, without times", plain("a.h264", "libx264"), numbers=list(range(6)), times=even(6)),
    Case("empty", containing("a.mp4", b""), says="is empty"),
    Case("text", containing("a.mp4", b"Dear reader, this is no video.\n" * 20), says="is not a video that can be read"),
    Case("noise", containing("a.mkv", np.random.default_rng(0).bytes(5000)), says="is not a video that can be read"),
    Case("zeros", containing("a.ts", bytes(20_000)), says="is not a video that can be read|breaks off"),
    Case(
        "a box larger than the file",
        containing("a.mp4", b"\0\0\0\x18ftypisom" + bytes(12) + b"\xff\xff\xff\xffmoov"),
        says="no video in it",
    ),
    Case("missing", lambda f: f / "gone.mp4", says="cannot be read: No such file"),
    Case("a folder", folder_named, says="is no file but a folder"),
    Case("a name that cannot be", lambda f: f / "a\0b.mp4", says="cannot be read"),
    Case("a colon in the name", at_times("12:30.mp4", even(4)), numbers=list(range(4)), times=even(4)),
    Case("odd letters in the name", at_times("😀 fête 100%d.mp4", even(4)), numbers=list(range(4)), times=even(4)),
]

CASES = [*PLAIN, *ORIENTATION, *PHOTOS, *CLOCKS, *COLOURS, *FIELDS, *TRACKS, *DAMAGE]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_frame_comes_out_right_or_a_sentence_says_why_not(tmp_path: Path, case: Case):
    source = VideoSource(case.make(tmp_path))
    if case.says is not None:
        with pytest.raises(SourceError, match=case.says) as raised:
            list(frames_of(source))
        assert str(raised.value).endswith(".")
        assert "\n" not in str(raised.value)
        return
    frames = list(frames_of(source))
    check(case, frames)
    if case.lost:
        assert source.lost is not None
        assert re.search(case.lost, source.lost)
    else:
        assert source.lost is None
    if case.frame_count is not None:
        source.open()
        assert source.frame_count == case.frame_count
        source.close()


def check(case: Case, frames: list[Frame]) -> None:
    assert frames
    first, last = frames[0].pixels, frames[-1].pixels
    times = [frame.media_time or 0.0 for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    if case.numbers is not None:
        assert [read_index(frame.pixels) for frame in frames] == case.numbers
    if case.times is not None:
        # Files whose sound begins first begin with it; the pictures are then some milliseconds late.
        assert times == pytest.approx(case.times, abs=0.03)
    if case.size is not None:
        assert (first.shape[1], first.shape[0]) == case.size
    if case.last_size is not None:
        assert (last.shape[1], last.shape[0]) == case.last_size
    if case.corners is not None:
        assert corners(first) == case.corners
    if case.colour is not None:
        height, width = first.shape[:2]
        assert np.abs(first[height // 2, width // 2].astype(int) - case.colour).max() <= case.within
    if case.combing is not None:
        assert max(combing(frame.pixels) for frame in frames) < case.combing


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders on Windows")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "clip.mp4"
    with socket.socket(socket.AF_UNIX) as made:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            made.bind(str(path))
        else:
            path.symlink_to("/dev/zero")
        with pytest.raises(SourceError, match="is no file but a pipe or a device"):
            VideoSource(path).open()
