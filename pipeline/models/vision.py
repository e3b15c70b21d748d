"""Models that look at a picture, in the layout of transformers: a folder with ``config.json`` and its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from pipeline.models.errors import ModelError, explained
from pipeline.models.hub import Progress, download_part, looks_like_hub_id
from pipeline.models.model_parts import read_json
from pipeline.models.weights import sound_state, weight_files
from pipeline.user_path import is_file, is_folder, is_there, user_path

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
# What pictures are normalised with where a model does not say: mean and deviation of ImageNet's colours.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Entries of a configuration that would have a library fetch weights of its own.
_FETCHING = {"use_pretrained_backbone": False}


@dataclass(frozen=True, slots=True, eq=False)
class VisionModel:
    """A model of transformers, read.

    Attributes:
        what: it and where it lies, for people.
        module: in evaluation mode, on its device; no weight of it wants a gradient.
        config: as its file has it.
        mean, deviation: (R, G, B) with which pictures in 0..1 are normalised for it.
        side: pixels of the shorter side of the pictures that it was made for; None where it does not say.
    """

    what: str
    module: nn.Module
    config: Mapping[str, object]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    side: int | None


def read_vision_model(
    spec: str, task: str, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> VisionModel:
    """Read the model that ``spec`` means; no code that comes with it is run.

    Args:
        spec: a folder, or a hub name.
        task: ``depth`` or ``pose``.
        device, dtype: where it is to run, and in which number format.
        progress: told of a download.

    Raises:
        ModelError: there is no such model, it is damaged or stored as pickle, or does another task.
    """
    folder = _found(spec, task, progress)
    what = f"the {task} model in {folder}"
    raw = read_json(folder / _CONFIG)
    config, kind = _kind(what, task, raw)
    state = sound_state(weight_files(folder))
    module = _built(what, kind, config, state).eval().requires_grad_(False).to(device, dtype)
    known = read_json(folder / _PREPROCESSOR) if is_file(folder / _PREPROCESSOR) else {}
    mean, deviation = _colours(known.get("image_mean"), _MEAN), _colours(known.get("image_std"), _DEVIATION)
    return VisionModel(what, module, raw, mean, deviation, _shorter_side(known.get("size")))


def _found(spec: str, task: str, progress: Progress | None) -> Path:
    path = user_path(spec)
    if is_folder(path):
        if not is_file(path / _CONFIG):
            raise ModelError(f"{path} is no {task} model: it has no {_CONFIG}")
        return path
    if is_there(path):
        raise ModelError(f"{path} is no {task} model: that is a folder with {_CONFIG} and a .safetensors file")
    if looks_like_hub_id(spec):
        return download_part(spec, f"{task} model", progress)
    raise ModelError(f"there is no {task} model {spec!r}: give a folder in the layout of transformers, or a hub name")


def _kind(what: str, task: str, raw: Mapping[str, object]) -> tuple[PreTrainedConfig, type]:
    """The configuration of a model, and its class, both transformers' own."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_DEPTH_ESTIMATION_MAPPING,
        MODEL_FOR_POSE_ESTIMATION_MAPPING,
    )

    kinds = {"depth": MODEL_FOR_DEPTH_ESTIMATION_MAPPING, "pose": MODEL_FOR_POSE_ESTIMATION_MAPPING}[task]
    with explained(what):
        name = raw.get("model_type")
        known = isinstance(name, str) and name in CONFIG_MAPPING and CONFIG_MAPPING[name] in kinds
        if not known:
            names = sorted(kind.model_type for kind in kinds)
            raise ModelError(f"{what} is of kind {name}, which sees no {task}; known are {', '.join(names)}")
        config = cast("type[PreTrainedConfig]", CONFIG_MAPPING[str(name)]).from_dict({**raw, **_FETCHING})
        return config, cast(type, kinds[type(config)])


def _built(what: str, kind: type, config: PreTrainedConfig, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """A module on copies of the weights, all of which are there and fit."""
    from transformers.utils import logging

    # Its bars and tables would write over the application's own.
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)
    try:
        with explained(what):
            copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()}
            module, found = kind.from_pretrained(  # pyright: ignore[reportAttributeAccessIssue]
                None, config=config, state_dict=copies, dtype=torch.float32, output_loading_info=True
            )
    finally:
        logging.set_verbosity(before)
    for part in module.modules():
        if hasattr(type(part), "loss_function"):  # looked for by whoever traces the module, and none for this task
            part.loss_function = None
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelError(
            f"{what} is incomplete: {len(missing)} tensors are missing, such as {missing[0]}; get it again"
        )
    return module


def _colours(stated: object, usual: tuple[float, ...]) -> tuple[float, ...]:
    """``stated`` where it is three finite numbers above 0, else ``usual``."""
    if not isinstance(stated, Sequence) or len(stated) != 3:
        return usual
    numbers = [one for one in stated if isinstance(one, int | float) and math.isfinite(one) and one > 0]
    return tuple(map(float, numbers)) if len(numbers) == 3 else usual


def _shorter_side(size: object) -> int | None:
    """Of a size as preprocessors state it: ``{"height": 518, "width": 518}``, ``{"shortest_edge": 384}``, 384."""
    sides = size.values() if isinstance(size, Mapping) else [size]
    found = [side for side in sides if isinstance(side, int) and 0 < side <= 4096]
    return min(found, default=None)
