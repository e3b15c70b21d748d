"""Makes video and sound files of every kind for tests, with PyAV alone: joined, mirrored, HDR, interlaced, tiled."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from app.media.boxes import boxes, find, top_box
from tests.app.media import cards

WIDTH, HEIGHT, FPS, RATE = 128, 96, 25, 48_000
TICK = Fraction(1, 90_000)
COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def quarters(width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3): red, lime, blue and white from the upper left."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = COLOURS["red"], COLOURS["lime"]
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = COLOURS["blue"], COLOURS["white"]
    return picture


def corners(picture: np.ndarray) -> str:
    """Which of the four colours is nearest in each quarter of (H, W, 3), in rows."""
    height, width = picture.shape[:2]
    places = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return " ".join(
        min(COLOURS, key=lambda name: np.abs(picture[y, x] - np.array(COLOURS[name])).sum()) for y, x in places
    )


def combing(picture: np.ndarray) -> float:
    """By how much lines differ from the mean of their neighbours, in levels; near 0 for a picture in one piece."""
    lines = picture[..., 0].astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def tone(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """(channels, n) float32: 440 Hz at a third of full loudness."""
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def add_sound(
    container: OutputContainer, codec: str, samples: np.ndarray, start: float = 0.0, rate: int = RATE
) -> AudioStream:
    """The (channels, n) float32 ``samples`` as a further stream, all of it at once, from ``start`` seconds on."""
    stream, chunk = (
        new_sound(container, codec, samples.shape[0], rate),
        1152 if codec in {"mp2", "libmp3lame"} else 1024,
    )
    for at in range(0, samples.shape[1], chunk):
        container.mux(stream.encode(sound_frame(samples[:, at : at + chunk], round(start * rate) + at, rate)))
    container.mux(stream.encode(None))
    return stream


def new_sound(container: OutputContainer, codec: str, channels: int, rate: int = RATE) -> AudioStream:
    """An empty stream of sound."""
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    return stream


def sound_frame(samples: np.ndarray, pts: int, rate: int = RATE) -> av.AudioFrame:
    """(channels, n) float32 as a frame that begins with sample ``pts``."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[0]]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, rate)
    return frame


def new_video(container: OutputContainer, codec: str, width: int, height: int, pix_fmt: str = "yuv420p") -> VideoStream:
    """An empty stream of pictures."""
    stream = container.add_stream(codec, rate=FPS)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
    if codec == "libx264":
        stream.codec_context.options, stream.codec_context.max_b_frames = {"preset": "ultrafast", "crf": "12"}, 2
    return stream


def transport_stream(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    start: float = 0.0,
    sound: str | None = "aac",
    channels: int = 1,
    rate: int = RATE,
    codec: str = "libx264",
    pause: tuple[int, float] = (0, 0.0),
    aspect: Fraction | None = None,
    loud: float = 1.0,
) -> Path:
    """A transport stream whose clock begins at ``start`` seconds, with a tone as long as the pictures.

    ``pause`` is the number of a picture, and the seconds for which nothing comes before it.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", format="mpegts") as container:
        video = new_video(container, codec, width, height)
        video.codec_context.gop_size = 5
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        audio = new_sound(container, sound, channels, rate) if sound else None
        chunk, samples, at = 1152 if sound == "mp2" else 1024, loud * tone(len(pictures) / FPS, channels, rate), 0
        for number, picture in enumerate(pictures):
            late = pause[1] if pause[1] and number >= pause[0] else 0.0
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round((start + late + number / FPS) / TICK), TICK
            container.mux(video.encode(frame))
            while audio is not None and at < min(samples.shape[1], (number + 1) / FPS * rate):
                piece = sound_frame(samples[:, at : at + chunk], round((start + late) * rate) + at, rate)
                container.mux(audio.encode(piece))
                at += chunk
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
    return path


def joined(path: Path, *parts: Path) -> Path:
    """All files one after the other, as ``cat`` joins them."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The MP4 at ``path``, now with this display matrix: (p, q) is shown at (a p + c q, b p + d q)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # version 0 of the box
    struct.pack_into(">9i", data, at, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def flat_yuv(
    path: Path, yuv: tuple[int, int, int], *, transfer: int, primaries: int, matrix: int, frames: int = 2
) -> Path:
    """One colour in ten bits, by the numbers of ITU-T H.273, lossless."""
    with av.open(str(path), "w") as container:
        stream = new_video(container, "ffv1", 64, 64, "yuv420p10le")
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = (
            transfer,
            primaries,
            matrix,
            1,
        )
        for number in range(frames):
            planes = [np.full(4096, yuv[0]), np.full(1024, yuv[1]), np.full(1024, yuv[2])]
            frame = VideoFrame.from_ndarray(
                np.concatenate(planes).astype(np.uint16).reshape(96, 64), format="yuv420p10le"
            )
            frame.color_trc, frame.color_primaries, frame.colorspace = transfer, primaries, matrix
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def bt2020(light: Sequence[float], signal: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int, int]:
    """Ten bits of Y, U and V by BT.2020 for a linear colour by BT.709 under this transfer function (BT.2087)."""
    to_2020 = np.array([[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]])
    red, green, blue = signal(to_2020 @ np.asarray(light, float))
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    return round(64 + 876 * luma), round(512 + 896 * (blue - luma) / 1.8814), round(512 + 896 * (red - luma) / 1.4746)


def hlg(light: np.ndarray) -> np.ndarray:
    """The HLG signal of a scene's light with reference white at 1 (BT.2100, table 5)."""
    light = light * 0.265
    return np.where(
        light <= 1 / 12,
        np.sqrt(3 * np.maximum(light, 0)),
        0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073,
    )


def pq(light: np.ndarray) -> np.ndarray:
    """The PQ signal of light with reference white, 203 cd/m2, at 1 (BT.2100, table 4)."""
    root = (np.maximum(light, 0) * 203 / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def interlaced(path: Path, codec: str, *, marked: bool = True, count: int = 12) -> Path:
    """A bar that moves, its even lines a moment before its odd ones."""

    def bar(moment: int) -> np.ndarray:
        picture = np.zeros((HEIGHT, 192, 3), np.uint8)
        picture[:, moment * 6 : moment * 6 + 24] = 255
        return picture

    with av.open(str(path), "w") as container:
        stream = new_video(container, codec, 192, HEIGHT)
        if marked:
            stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        stream.codec_context.bit_rate = 8_000_000
        if codec == "libx264":
            stream.codec_context.options = {"crf": "8", "x264-params": "tff=1"} if marked else {"crf": "8"}
        for number in range(count):
            woven = bar(2 * number)
            woven[1::2] = bar(2 * number + 1)[1::2]
            frame = VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def song(path: Path, codec: str) -> Path:
    """Two seconds of sound with a cover."""
    with av.open(str(path), "w") as container:
        audio = new_sound(container, codec, 1)
        cover = new_video(container, "mjpeg", WIDTH, HEIGHT, "yuvj420p")
        cover.disposition = Disposition.attached_pic
        _still(container, cover)
        for at in range(0, 2 * RATE, 1152):
            container.mux(audio.encode(sound_frame(tone(1152 / RATE), at, RATE)))
        container.mux(audio.encode(None))
    return path


def _still(container: OutputContainer, stream: VideoStream) -> None:
    frame = VideoFrame.from_ndarray(quarters(WIDTH, HEIGHT), format="rgb24").reformat(format=stream.pix_fmt)
    frame.pts = 0
    container.mux(stream.encode(frame) + stream.encode(None))


def two_films(path: Path, *, still: bool, default: int | None = None) -> Path:
    """First four quarters, one picture or as many as the film after it; then eight numbered pictures, the film."""
    with av.open(str(path), "w") as container:
        first = new_video(container, "mjpeg", WIDTH, HEIGHT, "yuvj420p")
        film = new_video(container, "libx264", WIDTH, HEIGHT)
        if default is not None:
            (first, film)[default].disposition = Disposition.default
        for number, picture in enumerate(cards(8, WIDTH, HEIGHT)):
            for stream, pixels in ((first, quarters(WIDTH, HEIGHT)), (film, picture)):
                if stream is film or not still or not number:
                    frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
                    frame.pts, frame.time_base = number, Fraction(1, FPS)
                    container.mux(stream.encode(frame))
        container.mux(first.encode(None))
        container.mux(film.encode(None))
    return path


def box(kind: bytes, *payload: bytes) -> bytes:
    """An ISO base media box."""
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    """An ISO base media box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


@dataclass(frozen=True)
class Tiles:
    """A photo of ``rows`` by ``columns`` tiles of one side, to be written as a HEIC file."""

    picture: np.ndarray
    rows: int = 2
    columns: int = 2
    side: int = 64
    properties: tuple[bytes, ...] = ()  # of the whole photo, as ``irot`` or ``imir``
    leave_out: int = 0  # tiles at the end that the file lacks
    claimed: tuple[int, int] | None = None  # size that it says it has


def heic(path: Path, tiles: Tiles) -> Path:
    """A HEIC file (ISO/IEC 23008-12) whose picture is a grid; what of the tiles reaches beyond the picture is grey."""
    height, width = tiles.picture.shape[:2]
    claimed = tiles.claimed or (width, height)
    whole = np.full((tiles.rows * tiles.side, tiles.columns * tiles.side, 3), 128, np.uint8)
    whole[:height, :width] = tiles.picture
    coded = [
        _hevc_still(path.with_name("tile.mp4"), whole[y : y + tiles.side, x : x + tiles.side])
        for y in range(0, whole.shape[0], tiles.side)
        for x in range(0, whole.shape[1], tiles.side)
    ]
    count = len(coded)
    numbers = range(2, 2 + count)
    grid = struct.pack(">BBBBHH", 0, 0, tiles.rows - 1, tiles.columns - 1, *claimed)
    entries = [full_box(b"infe", 2, 0, struct.pack(">HH4s", 1, 0, b"grid"), b"\0")]
    entries += [full_box(b"infe", 2, 1, struct.pack(">HH4s", number, 0, b"hvc1"), b"\0") for number in numbers]
    known = [coded[0][0], full_box(b"ispe", 0, 0, struct.pack(">II", tiles.side, tiles.side))]
    known += [full_box(b"ispe", 0, 0, struct.pack(">II", *claimed)), *tiles.properties]
    of_photo = bytes([3, *range(4, 4 + len(tiles.properties))])
    association = struct.pack(">IHB", 1 + count, 1, len(of_photo)) + of_photo
    association += b"".join(struct.pack(">HBBB", number, 2, 1, 2) for number in numbers)

    def meta(begin: int) -> bytes:
        places = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid))
        at = begin
        for number, (_, data) in zip(numbers, coded, strict=True):
            places += struct.pack(">HHHHII", number, 0, 0, 1, at, len(data))
            at += len(data)
        # Each entry of ``iloc``: item, method, data reference, (no base), extents, offset and size of four bytes each.
        return full_box(
            b"meta",
            0,
            0,
            full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, b"pict"), b"\0"),
            full_box(b"pitm", 0, 0, struct.pack(">H", 1)),
            full_box(b"iloc", 1, 0, struct.pack(">BBH", 0x44, 0, 1 + count), places),
            full_box(b"iinf", 0, 0, struct.pack(">H", 1 + count), *entries),
            full_box(b"iref", 0, 0, box(b"dimg", struct.pack(f">HH{count}H", 1, count, *numbers))),
            box(b"iprp", box(b"ipco", *known), full_box(b"ipma", 0, 0, association)),
            box(b"idat", grid),
        )

    kind = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    begin = len(kind) + len(meta(0)) + 8
    kept = b"".join(data for _, data in coded[: count - tiles.leave_out])
    path.write_bytes(kind + meta(begin) + box(b"mdat", kept))
    return path


def _hevc_still(path: Path, picture: np.ndarray) -> tuple[bytes, bytes]:
    """Its ``hvcC`` box and its data, as MP4 has them."""
    with av.open(str(path), "w") as container:
        stream = new_video(container, "libx265", picture.shape[1], picture.shape[0])
        stream.codec_context.options = {"x265-params": "crf=4:log-level=none:keyint=1"}
        stream.codec_tag = "hvc1"
        frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
        )
        container.mux(stream.encode(frame) + stream.encode(None))
    with av.open(str(path)) as container:
        data = b"".join(bytes(packet) for packet in container.demux(video=0) if packet.size)
    entries = find(top_box(path, b"moov") or b"", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    assert entries is not None
    ((_, entry),) = boxes(entries[8:])
    config = find(entry[78:], b"hvcC")
    assert config is not None
    return box(b"hvcC", bytes(config)), data
