"""Finds the people in a picture: MediaPipe's selfie segmentation, as a network that any backend runs.

The weights are those of Google's model (general, 256x256; Apache-2.0), converted once by ``assets/training/person.py``.
The structure is a MobileNetV3 (arXiv 1905.02244) on the way down, and on the way up sums whose fine half is weighted by
a gate.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.networks import sharing_weights

WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "models" / "person" / "selfie_segmentation.safetensors"
SIDE = 256  # pixels of the square that a picture is made for the network


class MaskError(Exception):
    """There can be no mask. The message is one sentence for the user."""


class PersonNetwork:
    """``squares`` (F, 3, 256, 256) in 0..1 to ``masks`` (F, 1, 256, 256) float32: 1 where a person is, 0 where none is.

    The square is a picture of any shape, scaled as it may be: that is how the network was trained. It is scaled outside
    of the network, as with sides that are left open OpenVINO takes twice as long.
    """

    name, part, open_sizes, window = "person", "person", False, False

    def __init__(self, device: torch.device) -> None:
        """Raises ``MaskError``: the weights cannot be read."""
        self._segmenter = placed_segmenter(device)

    def module(self) -> nn.Module:
        return _Masks(sharing_weights(self._segmenter))


class _Masks(nn.Module):
    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.person = segmenter

    def forward(self, squares: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"masks": self.person(squares.float().contiguous(memory_format=torch.channels_last))}


class Segmenter(nn.Module):
    """Squares (F, 3, 256, 256) in 0..1 to masks (F, 1, 256, 256) in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, 16, 3, stride=2)
        self.down_1 = _Block(16, 16, 16, 3, nn.ReLU(), stride=2, squeezed=8)
        self.down_2 = nn.Sequential(
            _Block(16, 72, 24, 3, nn.ReLU(), stride=2), _Block(24, 88, 24, 3, nn.ReLU(), residual=True)
        )
        self.down_3 = nn.Sequential(
            _Block(24, 96, 32, 5, nn.Hardswish(), stride=2, squeezed=24),
            *(_Block(32, 128, 32, 5, nn.Hardswish(), squeezed=32, residual=True) for _ in range(2)),
            *(_Block(32, 96, 32, 5, nn.Hardswish(), squeezed=24, residual=True) for _ in range(2)),
        )
        self.middle = _Conv(32, 128, 1)
        self.middle_gate = _Conv(32, 128, 1)
        self.up = nn.ModuleList([_Up(128, 24), _Up(24, 16), _Up(16, 16)])
        self.mask = _Conv(16, 4, 1)  # the four pixels that each becomes

    def forward(self, squares: torch.Tensor) -> torch.Tensor:
        stem = F.hardswish(self.stem(squares))  # 128 pixels a side
        half = self.down_1(stem)  # 64
        quarter = self.down_2(half)  # 32
        eighth = self.down_3(quarter)  # 16
        deep = F.relu(self.middle(eighth)) * torch.sigmoid(self.middle_gate(_mean(eighth)))
        for up, fine in zip(self.up, (quarter, half, stem), strict=True):
            deep = up(deep, fine)
        return F.pixel_shuffle(torch.sigmoid(self.mask(deep)), 2)


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow pads (``SAME``): with a stride, more at the right and at the bottom."""

    def __init__(self, into: int, out: int, size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, size, stride, groups=groups, padding=0 if stride > 1 else size // 2)
        total = size - stride if stride > 1 else 0
        self._around = (total // 2, total - total // 2) * 2 if total else ()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(input, self._around) if self._around else input)


class _Block(nn.Module):
    """An inverted bottleneck; with ``squeezed`` channels, its middle is weighted by what is in the whole picture."""

    def __init__(
        self,
        into: int,
        wide: int,
        out: int,
        size: int,
        activation: nn.Module,
        *,
        stride: int = 1,
        squeezed: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.expand = _Conv(into, wide, 1)
        self.depthwise = _Conv(wide, wide, size, stride=stride, groups=wide)
        self.gate = _Gate(wide, squeezed) if squeezed else None
        self.project = _Conv(wide, out, 1)
        self._activation, self._residual = activation, residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self._activation(self.depthwise(self._activation(self.expand(x))))
        if self.gate is not None:
            wide = wide * self.gate(wide)
        return self.project(wide) + x if self._residual else self.project(wide)


class _Gate(nn.Module):
    """Channels (F, C, h, w) to a weight in 0..1 for each, (F, C, 1, 1)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = _Conv(channels, squeezed, 1)
        self.excite = _Conv(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.excite(F.relu(self.squeeze(_mean(x)))))


class _Up(nn.Module):
    """From the deep to a side twice as long, together with what was found there on the way down."""

    def __init__(self, deep: int, fine: int) -> None:
        super().__init__()
        self.enter = _Conv(deep, fine, 1)
        self.gate = _Gate(fine, fine)
        self.mix = _Conv(fine, fine, 1)
        self.depthwise = _Conv(fine, fine, 3, groups=fine)

    def forward(self, deep: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        # A convolution of one pixel and the enlargement may change places, and on the small side it costs a quarter.
        deep = F.interpolate(self.enter(deep), scale_factor=2.0, mode="bilinear", align_corners=False)
        mixed = F.relu(self.mix(fine * self.gate(fine + deep) + deep))
        return mixed + F.relu(self.depthwise(mixed))


def _mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3), keepdim=True)


@lru_cache(maxsize=2)
def placed_segmenter(device: torch.device) -> Segmenter:
    """The segmenter on ``device``, read once. Raises ``MaskError`` where its file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    segmenter = Segmenter()
    try:
        segmenter.load_state_dict(load_file(WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise MaskError(
            f"The network that finds people cannot be read ({WEIGHTS}); install Vitrail again to have it."
        ) from error
    return segmenter.requires_grad_(False).eval().to(device=device).to(memory_format=torch.channels_last)
