"""Hints: pictures made live of each frame that say what of its shape the picture is to keep.

Each is what the usual ControlNets and T2I-Adapters of its name were trained on, (F, 3, H, W) in 0..1:

=============  ===================================================================  ===============================
hint           what it is                                                           networks
=============  ===================================================================  ===============================
``canny``      thin white edges on black                                            canny
``sketch``     few, whole white lines of one width on black                         sketch, scribble, lineart
``soft-edge``  how much of an edge there is, bright on black                        softedge, hed, pidinet
``depth``      near is bright; by a model                                           depth, midas, zoe
``pose``       OpenPose's skeleton in its colours on black; by a model              openpose
``mask``       white where the person is, black elsewhere                           segmentation of one's own
=============  ===================================================================  ===============================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING

import torch

from pipeline.backends.backend import Backend
from pipeline.config import StreamConfig
from pipeline.device import uploaded
from pipeline.hints.canny import canny
from pipeline.hints.depth import Depth
from pipeline.hints.pixels import Draw, drawn
from pipeline.hints.pose import Pose
from pipeline.hints.sketch import sketch
from pipeline.hints.soft_edges import soft_edges
from pipeline.masking.person import PersonFinder
from pipeline.masking.segmenter import MaskError
from pipeline.models.errors import ModelError
from pipeline.models.vision import read_vision_model
from pipeline.shape_list import parse_shapes

if TYPE_CHECKING:
    from pipeline.models.model import Model

_LINES: Mapping[str, Draw] = {"canny": canny, "sketch": sketch, "soft-edge": soft_edges}
_DEPTH, _POSE, _MASK = "depth", "pose", "mask"

# Gives the person's mask (F, 1, h, w) in 0..1 of the frames in hand.
Person = Callable[[], torch.Tensor]


class Hints:
    """Makes hints, and holds the models that some of them are made by.

    ``read`` may run on any thread; the rest on the stream's. Hints are of successive frames: the one of a frame may
    depend on the frames before it, and not on how many come in at a call.

    Args:
        model: on whose device, and in whose number format, hints are made.
        backend: runs the models.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self._device, self._dtype = model.device, model.dtype
        self._backend = backend
        self._read: dict[tuple[str, str], Depth | Pose] = {}  # by task and file, folder or hub name
        self._using: dict[str, Depth | Pose] = {}  # by task
        self._finder: PersonFinder | None = None
        self._config = StreamConfig()

    def is_ready(self, config: StreamConfig) -> bool:
        """Whether the models that ``config`` asks for have been read."""
        if self._finder is None and _MASK in _hints_of(config):
            return False
        return all(place in self._read for place in _wanted(config))

    def read(self, config: StreamConfig) -> None:
        """Read the models that ``config`` asks for and that have not been read.

        Raises:
            ModelError: one is not named, missing, damaged, or does something else.
        """
        hints = _hints_of(config)
        if self._finder is None and hints & {_MASK, _POSE}:
            try:
                self._finder = PersonFinder(self._device)
            except MaskError as error:
                if _MASK in hints:
                    raise ModelError(str(error).rstrip(".")) from error
        for task, spec in _wanted(config):
            if not spec:
                raise ModelError(
                    f"{task} in keep shape needs a {task} model: name a folder or a hub name as {task} model"
                )
            if (task, spec) not in self._read:
                found = read_vision_model(spec, task, self._device, self._dtype)
                self._read[task, spec] = Depth(found) if task == _DEPTH else Pose(found)

    def follow(self, config: StreamConfig) -> None:
        """Make the hints that ``config`` asks for by its models, all of which have been read."""
        self._config = config
        for task, spec in _wanted(config):
            before, self._using[task] = self._using.get(task), self._read[task, spec]
            if before is not None and before is not self._using[task]:
                self._read = {place: one for place, one in self._read.items() if one is not before}
                self._backend.changed(before.network.part, moved=True)

    def reset(self) -> None:
        """The next frames are of another source."""
        for one in self._using.values():
            one.reset()
        if self._finder is not None:
            self._finder.forget()

    @torch.inference_mode()
    def __call__(
        self, names: Iterable[str], frames: torch.Tensor, person: Person | None = None
    ) -> dict[str, torch.Tensor]:
        """The hints of these names, each once.

        Args:
            names: of ``HINTS`` in ``pipeline.shape_list``.
            frames: (F, 3, H, W) float in 0..1, on any device.
            person: gives the person's mask, where the caller has it; else it is found where a hint needs it.

        Returns:
            By name (F, 3, H, W) float32 in 0..1, on the model's device.

        Raises:
            ValueError: a hint is not known, or what it is made of is not there.
        """
        if person is None and (finder := self._finder) is not None:
            person = cache(
                lambda: finder(uploaded(frames.float(), self._device), self._backend, self._config)
            )  # once for all hints, as the mask is one of successive frames
        return {name: self._made(name, frames, person) for name in dict.fromkeys(names)}

    def _made(self, name: str, frames: torch.Tensor, person: Person | None) -> torch.Tensor:
        if name in _LINES:
            return uploaded(drawn(frames, _LINES[name]), self._device)
        if name in self._using:
            return self._using[name](frames, self._backend, person)
        if name == _MASK and person is not None:
            mask = torch.nn.functional.interpolate(person().float(), frames.shape[2:], mode="bilinear")
            return mask.to(self._device).expand(-1, 3, -1, -1)
        raise ValueError(f"there is nothing that makes the hint {name!r}")


def _hints_of(config: StreamConfig) -> set[str]:
    return {shape.hint for shape in parse_shapes(config.keep_shape)}


def _wanted(config: StreamConfig) -> list[tuple[str, str]]:
    """Task and name of each model that ``config`` needs."""
    hints = _hints_of(config)
    named = {_DEPTH: config.depth_model, _POSE: config.pose_model}
    return [(task, spec) for task, spec in named.items() if task in hints]
