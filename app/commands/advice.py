"""What ``vitrail bench`` makes of its figures: which settings are fast enough, and which give the best picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.settings import SIZE_STEP, SMALLEST_SIDE

# Further sides to measure, as shares of the model's own, where its own is too slow, or leaves room.
_SMALLER, _LARGER = (0.75, 0.5), (1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured combination.

    Attributes:
        size: side of the square picture in pixels.
        numbers: the number format that was calculated in.
        fps: pictures a second, all waiting included.
        latency_ms: 50th and 95th percentile from a frame's hand-over to its own picture in the host's memory. With T
            steps a picture comes T calls after its frame.
        stages_ms: medians of encode, unet, decode.
        memory_mb: of the GPU where there is one, else of the process; the most so far.
        watts: mean power of the device; None where it cannot be read.
        changes: with sparse inference, percent of the picture that change from frame to frame; None without.
        speed: how many times as fast a frame is as without sparse inference, by the medians of both, played in turns.
    """

    size: int
    steps: int
    acceleration: str
    numbers: str
    fps: float
    latency_ms: dict[str, float]
    stages_ms: dict[str, float]
    memory_mb: int
    watts: float | None
    changes: float | None = None
    speed: float = 1.0


def advice(rows: Sequence[Row], fps: float, own_size: int, own_steps: int | None) -> list[str]:
    """Two sentences: what to set for ``fps`` pictures a second, and what for the best picture.

    The best picture is, of those that were measured, the largest up to the model's own size and, of these, the one of
    most steps up to the model's own number; beyond these a picture takes longer and may be no better for it. For
    ``fps`` it is the best that comes often enough, and of equals the largest, as speed is there for it.

    Args:
        rows: what was measured, at least one.
        own_size: side in pixels that the model was made for.
        own_steps: steps that the model recommends; None where it recommends none.
    """
    plain = [row for row in rows if row.changes is None]
    most_steps = own_steps or max(row.steps for row in plain)

    def quality(row: Row) -> tuple[int, int]:
        return min(row.size, own_size), min(row.steps, most_steps)

    enough = [row for row in plain if row.fps >= fps]
    if enough:
        chosen = max(enough, key=lambda row: (quality(row), row.size, row.fps))
        first = f"For {fps:g} pictures a second: {_said(chosen)}."
    else:
        fastest = max(plain, key=lambda row: row.fps)
        first = f"Nothing that was measured gives {fps:g} pictures a second; the fastest is {_said(fastest)}."
    best = max(plain, key=lambda row: (quality(row), row.fps))
    second = f"For the best picture: {_said(best)}."
    if own_steps is not None and best.steps < own_steps:
        second += f" This model is made for {own_steps} steps; to measure them: --steps {own_steps}."
    return [first, second]


def further_sizes(fastest: float, fps: float, own_size: int) -> list[int]:
    """Sides that are worth measuring besides the model's own, the next one first.

    Args:
        fastest: most pictures a second at the model's own size.
        fps: how many are wanted.
    """
    shares = _SMALLER if fastest < fps else [share for share in _LARGER if fastest / share**2 >= fps]
    sides = [round(share * own_size / SIZE_STEP) * SIZE_STEP for share in shares]
    return [side for side in sides if side >= SMALLEST_SIDE]


def steps_said(steps: int) -> str:
    """As people say it."""
    return "1 step" if steps == 1 else f"{steps} steps"


def _said(row: Row) -> str:
    found = f"{row.fps:.0f} a second, {row.latency_ms['p50']:.0f} ms from a frame to its picture"
    return f"size {row.size}, {steps_said(row.steps)}, acceleration {row.acceleration} ({found})"
