"""What holds the picture up, in plain words: a pure function of the session's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from app.metrics import Snapshot
from app.settings import Settings
from app.sources.base import Source
from app.sources.camera import CameraSource
from app.sources.screen import ScreenSource

ENOUGH = 30  # frames before anything is said: the first ones tell little
_MUCH_SLOWER = 0.75
_LATE_MS = 500.0
_SMOOTH_FPS = 24.0
_MANY_DROPS = 5  # a single frame more or less is no news


@dataclass(frozen=True, slots=True)
class Origin:
    """What a hint needs to know of a source.

    Attributes:
        kind: ``camera``, ``screen`` or ``other``.
        fps: frames a second that it promises; None where it does not say.
    """

    kind: str = "other"
    fps: float | None = None


def origin_of(source: Source) -> Origin:
    """What a hint needs to know of ``source``."""
    kind = "camera" if isinstance(source, CameraSource) else "screen" if isinstance(source, ScreenSource) else "other"
    return Origin(kind, source.fps)


def hint(now: Snapshot, settings: Settings, origin: Origin, sink_drops: int = 0) -> str:
    """One or two sentences on what is slowest, and what helps; empty while the picture is smooth.

    Args:
        now: the session's numbers.
        settings: those of now.
        origin: where the frames come from.
        sink_drops: frames that recorder or virtual camera had to leave out lately.
    """
    if now.frames_out < ENOUGH or not now.fps_in:
        return ""
    behind = now.fps_out < _MUCH_SLOWER * now.fps_in
    if behind and _engine_fps(now, settings) < _MUCH_SLOWER * now.fps_in:
        return _slow_engine(now, settings)
    if not behind and now.fps_out < _SMOOTH_FPS and (slow := _slow_source(now, origin)):
        return slow
    if sink_drops >= _MANY_DROPS:
        return f"The recording or camera has left out {sink_drops} frames lately: this machine has too much to do."
    if behind:
        return (
            f"{now.fps_in:.0f} frames a second come in and {now.fps_out:.0f} go out, though the model is fast enough: "
            "another program, or a slow window or disk, takes the time."
        )
    if now.recent_latency_ms > _LATE_MS:
        return f"The picture is {now.recent_latency_ms / 1000:.1f} s late: {_cheaper(settings)} makes it quicker."
    return ""


def _slow_source(now: Snapshot, origin: Origin) -> str:
    promised = origin.fps or 0.0
    if now.fps_in >= _MUCH_SLOWER * promised:
        return ""
    if origin.kind == "camera":
        return (
            f"The camera gives only {now.fps_in:.0f} of its {promised:.0f} frames a second: in dim light it exposes "
            "longer. More light, or a smaller camera picture, helps."
        )
    if origin.kind == "screen":
        return f"The screen can be read only {now.fps_in:.0f} times a second; a smaller region is read faster."
    return f"The source gives only {now.fps_in:.0f} of its {promised:.0f} frames a second."


def _engine_fps(now: Snapshot, settings: Settings) -> float:
    spent = sum(now.stages_ms.values())
    return 1000 * settings.frame_buffer / spent if spent > 0 else float("inf")


def _slow_engine(now: Snapshot, settings: Settings) -> str:
    slowest = max(now.stages_ms, key=lambda name: now.stages_ms[name])
    share = 100 * now.stages_ms[slowest] / sum(now.stages_ms.values())
    what = "model" if slowest == "unet" else "picture's coding"
    advice = _cheaper(settings) if slowest == "unet" else "a smaller size"
    return (
        f"The {what} is the slowest part ({now.stages_ms[slowest]:.0f} ms a call, {share:.0f} % of the time): "
        f"try {advice}. Drops are normal: the newest frame wins."
    )


def _cheaper(settings: Settings) -> str:
    """What would cost less, the most effective first."""
    options = []
    if settings.stream.step_count > 1:
        options.append("fewer steps")
    if settings.stream.guidance == "full":
        options.append("self-negative guidance instead of full")
    options.append("a smaller size")
    if not settings.stream.similarity_filter:
        options.append("the similarity filter")
    return " or ".join(options[:2])
