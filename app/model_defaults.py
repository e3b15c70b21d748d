"""What a model recommends, and what of it becomes a setting: nothing that a person has chosen otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from app.settings import Settings
from pipeline.config import StreamConfig
from pipeline.setting import described

# The picture's size in pixels by which a session steps down where memory is short, and the least it goes to.
SMALLER = 0.75
SMALLEST_SHORT_SIDE = 192


def adapted(
    stream: StreamConfig, before: Mapping[str, Any], after: Mapping[str, Any], chosen: Collection[str] = ()
) -> StreamConfig:
    """``stream`` for a model that recommends ``after``, where the last one recommended ``before``.

    A setting that is as the last model had it (or as Vitrail has it, for one of which that model said nothing) goes to
    what the new model recommends. One that was set otherwise, or that is in ``chosen``, stays.
    """
    plain = {field.name: field.default for field in dataclasses.fields(StreamConfig)}
    changes = {}
    for name in {*before, *after} - set(chosen):
        if getattr(stream, name) == before.get(name, plain[name]):
            changes[name] = after.get(name, plain[name])
    return dataclasses.replace(stream, **changes)


def difference(before: StreamConfig, after: StreamConfig) -> str:
    """What is not the same in ``after``, in words: ``steps 10, solver dpmpp-2m``."""
    names = [name for name, _, _ in described(after) if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(after, name)}" for name in names)


def stepped_down(settings: Settings, width: int, height: int) -> tuple[Settings, str] | None:
    """Settings that need less memory than ``width`` x ``height`` pictures do, and what they cost, in words.

    None where there is nothing left to give.
    """
    if settings.frame_buffer > 1:
        return dataclasses.replace(settings, frame_buffer=1), "frames go through the model one at a time"
    if min(width, height) * SMALLER < SMALLEST_SHORT_SIDE:
        return None
    smaller = [max(64, int(side * SMALLER) // 64 * 64) for side in (width, height)]
    return (
        dataclasses.replace(settings, width=smaller[0], height=smaller[1]),
        f"the picture is made {smaller[0]}x{smaller[1]} instead of {width}x{height}",
    )
