"""Models that look at a picture, as networks that any backend runs."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import nn

from pipeline.backends.weights_digest import weights_digest
from pipeline.models.networks import sharing_weights
from pipeline.models.vision import VisionModel


class Looking(Protocol):
    """What becomes of pictures in the number format of the weights: a tensor with their rows."""

    def __call__(self, module: nn.Module, pictures: torch.Tensor) -> torch.Tensor: ...


class VisionNetwork:
    """``pictures`` (F, 3, h, w) in 0..1 to ``found`` (F, ...) float32.

    Its part has a name of its own for each set of weights: whatever is kept by the name of a part, here or on disk, is
    never that of another model.

    Args:
        model: as it was read.
        looking: calls its module on normalised pictures.
    """

    open_sizes, window = False, False

    def __init__(self, model: VisionModel, task: str, looking: Looking) -> None:
        self.name = self.part = f"{task}/{weights_digest(model.module)}"
        self._model = model
        self._looking = looking

    def module(self) -> nn.Module:
        return _Vision(self._model, self.part, self._looking)


class _Vision(nn.Module):
    _mean: torch.Tensor
    _deviation: torch.Tensor

    def __init__(self, model: VisionModel, part: str, looking: Looking) -> None:
        super().__init__()
        self.add_module(part, sharing_weights(model.module))
        self._part = part
        self._looking = looking
        like = next(model.module.parameters())
        for name, numbers in (("_mean", model.mean), ("_deviation", model.deviation)):
            tensor = torch.tensor(numbers, device=like.device, dtype=like.dtype).view(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        normalised = (pictures.to(self._mean.dtype) - self._mean) / self._deviation
        return {"found": self._looking(self.get_submodule(self._part), normalised).float()}


def setting_of(config: object, *path: str) -> object:
    """What stands at ``path`` in a configuration; None where there is no such place."""
    for name in path:
        config = cast(dict[str, object], config).get(name) if isinstance(config, dict) else None
    return config
