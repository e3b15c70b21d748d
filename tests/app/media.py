"""Real files for tests: small clips, sounds and pictures, made on the fly; and a check that sources share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import ImageCms

from app.frame import Frame
from app.sources.base import Source
from app.sources.testcard import TestCardSource

CLOCK = Fraction(1, 12_000)


def cards(count: int, width: int = 128, height: int = 96) -> list[np.ndarray]:
    """``count`` test card pictures, whose number ``read_index`` reads back."""
    source = TestCardSource(width=width, height=height)
    return [source.picture(index) for index in range(count)]


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    fps: int = 24,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    gop: int = 8,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    sound: str | None = None,
    sound_seconds: float = 0.0,
) -> Path:
    """A clip of these pictures; with ``sound`` a click at every full second, in the codec of that name."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, VideoStream)
        height, width = pictures[0].shape[:2]
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = CLOCK
        if codec == "libx264":
            stream.codec_context.options = {"crf": "8", "preset": "ultrafast"}
        if rotation:
            stream.set_display_rotation(rotation)
        if sound:
            add_clicks(container, sound, sound_seconds)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round((times[index] if times else index / fps) / CLOCK)
            frame.time_base = CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_clicks(container: OutputContainer, codec: str, seconds: float, rate: int = 48_000) -> None:
    """A sound track of silence with 20 ms of noise at every full second."""
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = "mono"
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    noise = np.random.default_rng(0).uniform(-0.8, 0.8, rate // 50)
    for second in range(int(seconds)):
        samples[0, second * rate : second * rate + noise.size] = noise
    for start in range(0, samples.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def clicks(path: Path) -> list[float]:
    """Where in a file's sound there are clicks, in seconds from the beginning of the file."""
    with av.open(str(path)) as container:
        zero = (container.start_time or 0) / av.time_base
        found: list[float] = []
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(as_float(frame)).max(axis=0) > 0.2)
            for place in loud:
                at = float(frame.time or 0) - zero + int(place) / frame.sample_rate
                if not found or at - found[-1] > 0.3:
                    found.append(at)
        return found


def as_float(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) in -1..1."""
    samples = frame.to_ndarray()
    return samples.astype(np.float32) / (32_768 if samples.dtype == np.int16 else 1)


def frames_of(source: Source) -> Iterator[Frame]:
    """Every frame of a source, opened and closed around them."""
    source.open()
    try:
        while (frame := source.read()) is not None:
            yield frame
    finally:
        source.close()


def assert_close_ends_a_read(source: Source) -> None:
    """After its first frame, ``source`` has a reader that waits for long: ``close`` must end that wait with None."""
    source.open()
    assert source.read() is not None
    answers = []
    reader = threading.Thread(target=lambda: answers.append(source.read()))
    reader.start()
    source.close()
    reader.join(timeout=30)
    assert answers == [None]


def swapped_profile() -> bytes:
    """A colour profile (ICC.1) that is sRGB with red and green changed about."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    places = {bytes(data[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    for one, other in ((b"rXYZ", b"gXYZ"),):
        data[places[one] : places[one] + 4], data[places[other] : places[other] + 4] = other, one
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
