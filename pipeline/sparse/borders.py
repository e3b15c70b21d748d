"""What convolutions see beyond the border of a window: what the picture was there when it was last computed.

A convolution of three by three pixels looks one pixel beyond what it writes. On a window of the picture that pixel is
missing, and with zeros in its place the error would grow inwards by a pixel at each layer, and by eight pixels at each
layer of the lowest level. So the input of every such convolution is kept, and a window is given the ring of one pixel
around it. This is SIGE's way with activations (arXiv 2211.02048, section 3.2), but for rectangles instead of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

# Pixels that a convolution sees beyond what it writes.
BORDER = 1


class Unsupported(Exception):
    """A UNet cannot be run on windows. The message is one clause without a full stop: what of it, and why."""


class Borders:
    """Takes over a UNet's convolutions of three by three pixels, which it keeps by the level that they look at.

    Level 0 is the latent's size, and each level is half as large as the one before. The inputs of all convolutions of
    one level are laid side by side as channels of one map, so that a window takes and gives one tensor a level.

    Attributes:
        levels: how many there are.
    """

    def __init__(self, unet: nn.Module) -> None:
        """Raises:
        Unsupported: a convolution is of another build, or lies elsewhere than in a ``UNet2DConditionModel``.
        """
        found: dict[nn.Conv2d, int] = dict(_convolutions(unet))
        for module in unet.modules():
            _check(module, found)
        self.levels = 1 + max(found.values())
        self._layers = [[layer for layer, at in found.items() if at == level] for level in range(self.levels)]
        self._handles: list[RemovableHandle] = []
        self._paddings: list[str | tuple[int, ...]] = []
        self._given: dict[nn.Module, torch.Tensor] = {}
        self._seen: dict[nn.Module, torch.Tensor] = {}

    def inject(self, *, windows: bool) -> None:
        """Look at what the convolutions are given. Of ``windows``, they are given borders instead of zeros, too."""
        self._paddings = [layer.padding for layer in self._all()]
        for layer in self._all():
            if windows:
                layer.padding = (0, 0)
            hook = partial(self._surround if windows else self._see, layer)
            self._handles.append(layer.register_forward_pre_hook(hook))

    def eject(self) -> None:
        """Give the UNet back as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for layer, padding in zip(self._all(), self._paddings, strict=bool(self._paddings)):
            layer.padding = padding
        self._paddings = []

    def begin(self, given: Sequence[torch.Tensor]) -> None:
        """A call is about to come: ``given`` is nothing, or for each level (B, channels, h + 2, w + 2), zero inside."""
        self._seen, self._given = {}, {}
        for layers, border in zip(self._layers, given, strict=bool(given)):
            pieces = border.split([layer.in_channels for layer in layers], dim=1)
            self._given.update(zip(layers, pieces, strict=True))

    def recorded(self) -> list[torch.Tensor]:
        """For each level (B, channels, h, w), what its convolutions were given at the last call."""
        return [torch.cat([self._seen[layer] for layer in layers], dim=1) for layers in self._layers]

    def _all(self) -> Iterator[nn.Conv2d]:
        return (layer for layers in self._layers for layer in layers)

    def _see(self, layer: nn.Module, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._seen[layer] = inputs[0]

    def _surround(self, layer: nn.Module, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = self._seen[layer] = inputs[0]
        return F.pad(x, (BORDER,) * 4) + self._given[layer].to(x.dtype)


class _Block(Protocol):
    """What is used of a block of a UNet: some have none of the one or of the other."""

    downsamplers: Sequence[nn.Module] | None
    upsamplers: Sequence[nn.Module] | None


class _UNet(Protocol):
    """What is used of a ``UNet2DConditionModel``."""

    conv_in: nn.Module
    down_blocks: Sequence[nn.Module]
    mid_block: nn.Module | None
    up_blocks: Sequence[nn.Module]
    conv_out: nn.Module


def _convolutions(module: nn.Module) -> Iterator[tuple[nn.Conv2d, int]]:
    """The convolutions that look beyond a pixel, and the level of the map that they look at."""
    unet = cast(_UNet, module)
    yield from _of(unet.conv_in, 0)
    for level, block in enumerate(unet.down_blocks):
        yield from _of(block, level)
    lowest = len(unet.down_blocks) - 1
    if unet.mid_block is not None:
        yield from _of(unet.mid_block, lowest)
    for up, block in enumerate(unet.up_blocks):
        # A block ends with an upsampling, whose convolution looks at what has been enlarged.
        enlarged = {layer for one in cast(_Block, block).upsamplers or () for layer, _ in _of(one, 0)}
        for layer, _ in _of(block, 0):
            yield layer, lowest - up - (layer in enlarged)
    yield from _of(unet.conv_out, 0)


def _of(module: nn.Module, level: int) -> Iterator[tuple[nn.Conv2d, int]]:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            yield layer, level


def _check(module: nn.Module, known: dict[nn.Conv2d, int]) -> None:
    """Raises:
    Unsupported: the module looks at its neighbours in a way that no border is kept for.
    """
    kind = type(module).__name__
    if isinstance(module, nn.ConvTranspose2d | nn.Conv1d | nn.Conv3d):
        raise Unsupported(f"a layer of kind {kind} looks at its neighbours in another way")
    if kind == "ResnetBlock2D" and (getattr(module, "up", False) or getattr(module, "down", False)):
        raise Unsupported("a residual block changes the size of the picture")
    if not isinstance(module, nn.Conv2d) or module.kernel_size == (1, 1):
        return
    build = module.kernel_size, module.padding, module.dilation, module.padding_mode
    if build != ((3, 3), (BORDER, BORDER), (1, 1), "zeros") or module not in known:
        raise Unsupported("a convolution is of another build than those of Stable Diffusion")
