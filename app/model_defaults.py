"""What a model recommends, with the LoRAs that it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pipeline.adapter_list import parse_loras
from pipeline.config import StreamConfig
from pipeline.setting import Value


def with_loras(defaults: Mapping[str, object], stream: StreamConfig) -> dict[str, Value]:
    """What a model recommends that has the LoRAs of ``stream``: one of few steps brings its solver and its steps."""
    recommended = dict(defaults)
    if stream.loras:
        from pipeline.models.families import recommended_by_loras  # imports torch

        recommended |= recommended_by_loras(parse_loras(stream.loras))
    return {name: value for name, value in recommended.items() if isinstance(value, Value)}


def adapted(stream: StreamConfig, recommended: Mapping[str, Value]) -> StreamConfig:
    """``stream`` as a model starts with it: what is as by default is as it is recommended.

    What a person has chosen to be as by default comes with the next frame.
    """
    plain = {field.name: field.default for field in dataclasses.fields(StreamConfig)}
    changes = {name: value for name, value in recommended.items() if getattr(stream, name) == plain[name]}
    return dataclasses.replace(stream, **changes)
