"""The pose of the person, as OpenPose draws it, by a model that a person names (ViTPose, arXiv 2204.12484).

Such a model looks at one person, in an upright box around them. Where the person's mask is known the box is around it;
else it is the whole frame, which does where one person fills much of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backends.backend import Backend
from pipeline.device import uploaded
from pipeline.hints.skeleton import COCO_JOINTS, skeletons
from pipeline.hints.vision_network import VisionNetwork, setting_of
from pipeline.models.errors import ModelError
from pipeline.models.vision import VisionModel

_USUAL_SIZE = 256, 192
_ROOM = 1.25  # the box is so much larger than the person: models were trained with this much around
_LEAST_PERSON = 0.5  # of the mask


class Pose:
    """Makes the hint.

    Args:
        model: a pose model of the 17 joints of COCO.

    Raises:
        ModelError: the model finds other joints.
    """

    def __init__(self, model: VisionModel) -> None:
        labels = model.config.get("id2label")
        count = len(labels) if isinstance(labels, dict) else COCO_JOINTS
        if count != COCO_JOINTS:
            raise ModelError(
                f"{model.what} finds {count} joints; give one that was trained on COCO's {COCO_JOINTS} joints of a body"
            )
        self.network = VisionNetwork(model, "pose", _Heatmaps(bool(_experts(model))))
        self._device = next(model.module.parameters()).device
        size = setting_of(model.config, "backbone_config", "image_size")
        self._size = (size[0], size[1]) if isinstance(size, list) and len(size) == 2 else _USUAL_SIZE

    def reset(self) -> None:
        """See ``Depth``: nothing is kept of the frames before."""

    def __call__(
        self, frames: torch.Tensor, backend: Backend, person: Callable[[], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """(F, 3, H, W) float 0..1 to the same form, on the model's device.

        Args:
            frames: the frames.
            backend: runs the model.
            person: gives the person's mask (F, 1, h, w) in 0..1; None where nobody makes one.
        """
        frames = uploaded(frames.float(), self._device)
        height, width = frames.shape[2:]
        whole = torch.tensor([[0.0, 0.0, width, height]], device=self._device).expand(len(frames), -1)
        boxes = whole if person is None else around(person().to(self._device), whole)
        boxes = shaped(boxes, self._size)
        found = backend.run(self.network, {"pictures": cut_out(frames, boxes, self._size)}, {})["found"]
        return skeletons(joints_of(found.to(self._device), boxes), height, width)


def around(mask: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """The box (F, 4), as left, top, width and height, around the mask (F, 1, h, w); ``whole`` where it is empty."""
    inside = mask[:, 0] > _LEAST_PERSON
    sides = []
    for line, length in ((inside.any(1), whole[:, 2]), (inside.any(2), whole[:, 3])):
        count = line.shape[1]
        places = torch.arange(count, device=mask.device, dtype=whole.dtype)
        first = torch.where(line, places, count).amin(1)
        last = torch.where(line, places + 1, 0).amax(1)
        sides.append((first * length / count, (last - first) * length / count))
    (left, wide), (top, high) = sides
    grown = torch.stack([left - wide * (_ROOM - 1) / 2, top - high * (_ROOM - 1) / 2, wide * _ROOM, high * _ROOM], 1)
    return torch.where(inside.flatten(1).any(1, keepdim=True), grown, whole)


def shaped(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The boxes (F, 4) made larger about their middle, to the shape of ``size`` (height, width)."""
    left, top, wide, high = boxes.unbind(1)
    shape = size[1] / size[0]
    wider, higher = torch.maximum(wide, high * shape), torch.maximum(high, wide / shape)
    return torch.stack([left - (wider - wide) / 2, top - (higher - high) / 2, wider, higher], 1)


def cut_out(frames: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What lies in the boxes (F, 4), at ``size`` (height, width); black beyond the frames (F, 3, H, W)."""
    height, width = frames.shape[2:]
    scale = torch.tensor([width, height], device=frames.device, dtype=frames.dtype)
    grid = torch.stack(
        torch.meshgrid(*(_centres(length, frames) for length in reversed(size)), indexing="xy"), -1
    )  # (h, w, 2): x, y in 0..1 of the box
    at = boxes[:, None, None, :2] + grid * boxes[:, None, None, 2:]
    return F.grid_sample(frames, 2 * at / scale - 1, mode="bilinear", padding_mode="zeros", align_corners=False)


def _centres(length: int, like: torch.Tensor) -> torch.Tensor:
    return (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / length


def joints_of(heatmaps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(F, J, h, w) how likely each joint is where, and the boxes (F, 4), to x, y in pixels and certainty (F, J, 3).

    The place is that of the peak, moved by a quarter of a pixel to the larger of its neighbours (arXiv 1804.06208,
    section 3).
    """
    height, width = heatmaps.shape[2:]
    score, peak = heatmaps.flatten(2).max(2)
    row, column = peak // width, peak % width

    def at(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        place = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
        return heatmaps.flatten(2).gather(2, place.unsqueeze(2)).squeeze(2)

    x = column + 0.25 * (at(row, column + 1) - at(row, column - 1)).sign() + 0.5
    y = row + 0.25 * (at(row + 1, column) - at(row - 1, column)).sign() + 0.5
    share = torch.stack([x / width, y / height], 2)
    return torch.cat([boxes[:, None, :2] + share * boxes[:, None, 2:], score.unsqueeze(2)], 2)


class _Heatmaps:
    """Calls a pose model; one with experts is told that the joints are COCO's."""

    def __init__(self, has_experts: bool) -> None:
        self._has_experts = has_experts

    def __call__(self, module: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
        if not self._has_experts:
            return module(pixel_values=pictures).heatmaps
        coco = torch.zeros(len(pictures), dtype=torch.long, device=pictures.device)
        return module(pixel_values=pictures, dataset_index=coco).heatmaps


def _experts(model: VisionModel) -> bool:
    count = setting_of(model.config, "backbone_config", "num_experts")
    return isinstance(count, int) and count > 1
