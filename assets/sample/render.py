"""Render the sample clip: ``python -m assets.sample.render [OUT.mp4]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from assets.sample import clip_path
from assets.sample.paint import HEIGHT, WIDTH
from assets.sample.scene import SECONDS, Scene, still

FPS = 24


def frames(seed: int = 7) -> Iterator[np.ndarray]:
    """The pictures of the clip in order, each (480, 640, 3) uint8 RGB."""
    scene = Scene(seed)
    resting: np.ndarray | None = None
    for index in range(round(SECONDS * FPS)):
        seconds = index / FPS
        if not still(seconds):
            yield scene.draw(seconds)
            continue
        if resting is None:
            resting = scene.draw(seconds)
        yield resting


def render(path: Path) -> None:
    """Write the clip as H.264 to ``path``."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.options = {"crf": "20", "preset": "slow"}
        context.width, context.height = WIDTH, HEIGHT
        context.pix_fmt, context.gop_size = "yuv420p", 2 * FPS
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        for picture in frames():
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(
                stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"))
            )
        container.mux(stream.encode(None))


if __name__ == "__main__":
    render(Path(sys.argv[1]) if len(sys.argv) > 1 else clip_path())
