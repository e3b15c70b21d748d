"""The report of a session: what ``--report`` writes."""

from __future__ import annotations

from typing import Any

from app.engine import ModelFacts
from app.metrics import Snapshot
from app.settings import Settings


def report(snapshot: Snapshot, settings: Settings, model: ModelFacts) -> dict[str, Any]:
    """The numbers of a session as a JSON-able dict; its keys are a promise to those who read the file.

    Times are in seconds or, where the name says so, milliseconds; width and height in pixels, of the last picture.
    """
    return {
        "frames_in": snapshot.frames_in,
        "frames_out": snapshot.frames_out,
        "frames_reprojected": snapshot.frames_reprojected,
        "frames_skipped": snapshot.frames_skipped,
        "frames_dropped": snapshot.frames_dropped,
        "seconds": round(snapshot.seconds, 3),
        "fps": round(snapshot.fps, 2),
        "latency_ms": {"p50": round(snapshot.latency_p50_ms, 2), "p95": round(snapshot.latency_p95_ms, 2)},
        "motion_ms": {"p50": round(snapshot.motion_p50_ms, 2), "p95": round(snapshot.motion_p95_ms, 2)},
        "stages_ms": {name: round(snapshot.stages_ms[name], 3) for name in ("encode", "unet", "decode")},
        "model": model.name,
        "device": model.device,
        "dtype": model.dtype,
        "acceleration": snapshot.acceleration or model.acceleration,
        "width": snapshot.width,
        "height": snapshot.height,
        "steps": settings.stream.step_count,
        "solver": settings.stream.solver,
        "guidance": settings.stream.guidance,
    }
