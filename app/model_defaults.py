"""What a model recommends, and what of it becomes a setting: nothing that a person has chosen otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.adapter_list import parse_loras
from pipeline.config import StreamConfig
from pipeline.setting import described


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


def with_loras(defaults: Mapping[str, Any], stream: StreamConfig) -> Mapping[str, Any]:
    """What a model recommends that has the LoRAs of ``stream``: one of few steps brings its solver and its steps."""
    if not stream.loras:
        return defaults
    from pipeline.models.families import recommended_by_loras  # imports torch

    return {**defaults, **recommended_by_loras(parse_loras(stream.loras))}


def difference(before: StreamConfig, after: StreamConfig) -> str:
    """What is not the same in ``after``, in words: ``steps 10, solver dpmpp-2m``."""
    names = [name for name, _, _ in described(after) if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(after, name)}" for name in names)
