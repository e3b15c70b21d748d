"""Depth, near is bright: for ``depth`` ControlNets and T2I-Adapters, by a model that a person names.

Models of relative depth (Depth Anything, arXiv 2406.09414; DPT, arXiv 2103.13413) say how near each pixel is, but on a
scale of their own in every picture. So that the hint does not flicker, the ends of the scale follow slowly from frame
to frame, and at once only where the scene is another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.backends.backend import Backend
from pipeline.device import uploaded
from pipeline.hints.vision_network import VisionNetwork, setting_of
from pipeline.models.vision import VisionModel

_ENDS = (0.02, 0.98)  # shares of a picture that lie below black and below white
_EVERY = 4  # pixels, each way, of which one is looked at for the ends
_KEPT = 0.9  # the share of the ends so far in the new ones, while the scene is the same
_USUAL_SIDE, _USUAL_MULTIPLE = 384, 32
_METRIC = ("glpn", "zoedepth")  # kinds that say how far away a pixel is, in metres
_NEAREST = 0.1  # metres


class Depth:
    """Makes the hint; the ends of the scale are its state.

    Args:
        model: a depth model.
    """

    def __init__(self, model: VisionModel) -> None:
        self.network = VisionNetwork(model, "depth", _predicted)
        config = model.config
        self._device = next(model.module.parameters()).device
        self._side = model.side or _USUAL_SIDE
        self._metric = config.get("model_type") in _METRIC or config.get("depth_estimation_type") == "metric"
        multiple = config.get("patch_size") or setting_of(config, "backbone_config", "patch_size")
        self._multiple = multiple if isinstance(multiple, int) else _USUAL_MULTIPLE
        self._ends: torch.Tensor | None = None

    def reset(self) -> None:
        """The next frame is of another scene."""
        self._ends = None

    def __call__(
        self, frames: torch.Tensor, backend: Backend, person: Callable[[], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """(F, 3, H, W) float 0..1 to the same form, on the model's device; F successive frames. See ``Pose``."""
        frames = uploaded(frames.float(), self._device)
        height, width = frames.shape[2:]
        size = working_size(height, width, self._side, self._multiple)
        small = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False)
        found = backend.run(self.network, {"pictures": small}, {})["found"].to(self._device)
        if self._metric:
            found = 1 / found.clamp_min(_NEAREST)
        depth = torch.stack([self._scaled(one) for one in found]).unsqueeze(1)
        depth = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
        return depth.expand(-1, 3, -1, -1)

    def _scaled(self, depth: torch.Tensor) -> torch.Tensor:
        """One frame's (h, w) in 0..1, on a scale that follows the frames."""
        seen = depth[::_EVERY, ::_EVERY].flatten()
        ends = torch.quantile(seen, torch.tensor(_ENDS, device=seen.device, dtype=seen.dtype))
        if self._ends is not None:
            before, length = self._ends, (self._ends[1] - self._ends[0]).clamp_min(1e-6)
            moved = ((ends - before).abs().amax() / length).clamp_max(1)
            ends = ends.lerp(before, _KEPT * (1 - moved))
        self._ends = ends
        return ((depth - ends[0]) / (ends[1] - ends[0]).clamp_min(1e-6)).clamp(0, 1)


def working_size(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The size in which a model made for ``side`` looks at a picture: of its shape, and never larger."""
    scale = min(1.0, side / min(height, width))
    rows, columns = (max(multiple, round(scale * length / multiple) * multiple) for length in (height, width))
    return rows, columns


def _predicted(module: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    return module(pixel_values=pictures).predicted_depth
