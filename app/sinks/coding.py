"""How the pictures of a video file are coded, by the kind of the file and by whether they can be seen through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from av.codec import codecs_available

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# Kinds of files that carry how opaque a picture is, and what it is coded with there.
_TRANSPARENT = {".mov": "prores_ks", ".webm": "libvpx-vp9"}


@dataclass(frozen=True, slots=True)
class Coding:
    """One way of coding.

    Attributes:
        codec: by FFmpeg's name.
        pixels: the format in which the encoder takes them, by FFmpeg's name.
        clock: seconds a tick of the encoder.
        options: for the encoder.
        alpha: whether it carries how opaque a picture is.
        lost: one sentence on what it lacks, if anything.
    """

    codec: str
    pixels: str
    clock: Fraction
    options: Mapping[str, str]
    alpha: bool = False
    lost: str | None = None


def coding_for(suffix: str, *, alpha: bool, quality: int, clock: Fraction) -> Coding:
    """How a file of this kind is coded.

    Args:
        suffix: one of ``VIDEO_SUFFIXES``.
        alpha: its first picture can be seen through.
        quality: constant rate factor, 0 to 51.
        clock: seconds a tick, where the codec leaves it open.

    Nothing waits in any of the encoders, so nothing is lost with it.
    """
    alpha = alpha and _TRANSPARENT.get(suffix) in codecs_available
    if suffix == ".webm":
        options = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0", "auto-alt-ref": "0"}
        options |= {"crf": str(quality), "b": "0"}
        return Coding("libvpx-vp9", "yuva420p" if alpha else "yuv420p", clock, options, alpha)
    if alpha:
        return Coding("prores_ks", "yuva444p10le", clock, {"profile": "4444", "alpha_bits": "16"}, alpha)
    if "libx264" in codecs_available:
        return Coding("libx264", "yuv420p", clock, {"preset": "veryfast", "tune": "zerolatency", "crf": str(quality)})
    lost = "This FFmpeg has no H.264 encoder, so the file is MPEG-4: larger, and less sharp."
    # MPEG-4 has 16 bits for the clock.
    return Coding("mpeg4", "yuv420p", Fraction(1, 60_000), {"qscale": "3", "flags": "+qscale"}, lost=lost)
