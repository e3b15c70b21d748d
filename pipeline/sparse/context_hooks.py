"""Lets a UNet run on a window of a picture: what its norms and self-attentions see of the whole is recorded, and given.

This is SIGE's handling of norms and attention (arXiv 2211.02048, section 3.3), but for one rectangle at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.conditioning.attention import Attention, heads, merged, plain_attentions, self_attentions
from pipeline.sparse.borders import Borders, Unsupported


class _Block(Protocol):
    """What is used of a residual block that takes the time embedding, a ``ResnetBlock2D``."""

    time_emb_proj: nn.Linear
    norm2: nn.GroupNorm


class ContextHooks:
    """Takes over those layers of a UNet that see more of the picture than the pixel they write.

    These are group norms, self-attentions and convolutions of three by three pixels (``Borders``). All others give on a
    window what they give there on the whole. A norm needs the mean and the deviation of the whole, a self-attention its
    keys and values, and a convolution the pixels around the window.

    Injected for the whole picture, the UNet computes what it always computes, and these are recorded. Injected for
    windows, it is given them: a norm scales and shifts as it did on the whole, and queries look at the keys and values
    of the whole as well as at those of the window. What a residual block adds of the time embedding is recorded as a
    part of the scale and shift of the norm behind it, so that a window needs neither the timestep nor the prompt's
    embeddings. Convolutions are taken over only where a window is *surrounded*; else they see zeros beyond it.

    Tensors go by these names, numbers counted from 0:

    - ``affine`` (B, 2 * channels): for each norm in turn, the scales of its channels, then their shifts.
    - ``keys_N``, ``values_N`` (B, heads, L, size): of self-attention N. Recorded of a window, they are of its l tokens.
    - ``seen_N`` (B or 1, 1, 1, L + l): added to the scores of the whole's L tokens and the window's l, 0 where a token
      is seen, far below 0 where it is not.
    - ``inputs_N`` (B, channels, h, w): surrounded, what the convolutions of level N were given.
    - ``border_N`` (B, channels, h + 2, w + 2): surrounded, what lies around the window there; 0 inside of it.

    ``affine``, ``keys``, ``values`` and ``inputs`` are recorded of the whole, and all but ``affine`` of windows;
    ``affine``, ``keys``, ``values``, ``seen`` and ``border`` are given to windows.
    """

    def __init__(self, unet: nn.Module) -> None:
        """Raises:
        Unsupported: a layer mixes the whole picture in another way.
        """
        self._norms = [module for module in unet.modules() if isinstance(module, nn.GroupNorm)]
        if getattr(unet, "encoder_hid_proj", None) is not None:
            raise Unsupported("its prompts go through a projection first")
        plain = {id(module) for module in plain_attentions(unet)}
        for module in unet.modules():
            _check(module, plain)
        self._borders = Borders(unet)
        self._blocks = [cast(_Block, module) for module in unet.modules() if _takes_time(module)]
        self._attentions = self_attentions(unet)
        self._originals: list[Callable[..., torch.Tensor]] = []
        self._processors: list[_Processor] = []  # of the self-attentions, while they are taken
        self._affine: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}  # scale and shift (B, C) of each norm
        self._time: dict[nn.Module, torch.Tensor] = {}  # what the time projection gave for each norm behind one
        self._windows = self._surrounded = False

    @property
    def injected(self) -> bool:
        """Whether the UNet's layers are taken."""
        return bool(self._norms) and "forward" in self._norms[0].__dict__

    def inject(self, *, windows: bool, surrounded: bool) -> None:
        """Take over the layers, for calls of the whole picture or of ``windows``."""
        if self.injected:
            return
        self._windows, self._surrounded = windows, surrounded
        for norm in self._norms:
            norm.__dict__["forward"] = partial(self._norm, norm)
        for block in self._blocks:
            block.time_emb_proj.__dict__["forward"] = partial(self._projected, block)
        self._originals = [attention.processor for attention in self._attentions]
        self._processors = [_Processor() for _ in self._attentions]
        for attention, processor in zip(self._attentions, self._processors, strict=True):
            attention.processor = processor
        if surrounded:
            self._borders.inject(windows=windows)

    def eject(self) -> None:
        """Give the UNet back as it was."""
        if not self.injected:
            return
        for module in [*self._norms, *(block.time_emb_proj for block in self._blocks)]:
            del module.__dict__["forward"]
        for attention, original in zip(self._attentions, self._originals, strict=True):
            attention.processor = original
        self._originals, self._processors = [], []
        self._borders.eject()

    def begin(self, given: Mapping[str, torch.Tensor]) -> None:
        """The UNet is about to be called; of the whole picture, nothing is ``given``."""
        self._affine, self._time = {}, {}
        levels = range(self._borders.levels) if self._windows and self._surrounded else ()
        self._borders.begin([given[f"border_{level}"] for level in levels])
        for number, processor in enumerate(self._processors):
            names = [f"{name}_{number}" for name in ("keys", "values", "seen")]
            processor.given = [given[name] for name in names] if self._windows else None
        if self._windows:
            # One split instead of many slices: it is one node in a compiled graph.
            pieces = given["affine"].split([norm.num_channels for norm in self._norms for _ in (0, 1)], dim=1)
            self._affine = dict(zip(self._norms, zip(pieces[::2], pieces[1::2], strict=True), strict=True))

    def recorded(self) -> dict[str, torch.Tensor]:
        """What the last call recorded."""
        found: dict[str, torch.Tensor] = {}
        if not self._windows:
            found["affine"] = torch.cat([piece for norm in self._norms for piece in self._affine[norm]], dim=1)
        for number, processor in enumerate(self._processors):
            found[f"keys_{number}"], found[f"values_{number}"] = processor.recorded
        if self._surrounded:
            found |= {f"inputs_{level}": inputs for level, inputs in enumerate(self._borders.recorded())}
        return found

    def _projected(self, block: _Block, embedding: torch.Tensor) -> torch.Tensor:
        """Stands in for a residual block's time projection, which is recorded for the norm behind it.

        Of a window it is nothing: the norm's affine has it.
        """
        layer = block.time_emb_proj
        if self._windows:
            return embedding.new_zeros(1, layer.out_features)
        self._time[block.norm2] = type(layer).forward(layer, embedding)
        return self._time[block.norm2]

    def _norm(self, norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
        """Stands in for a group norm."""
        if self._windows:
            shape = (-1, norm.num_channels) + (1,) * (x.ndim - 2)
            scale, shift = (piece.to(x.dtype).view(shape) for piece in self._affine[norm])
            return x * scale + shift
        y, mean, spread = _normed(norm, x)
        each = norm.num_channels // norm.num_groups
        scale = spread.repeat_interleave(each, dim=1) * norm.weight
        shift = norm.bias - mean.repeat_interleave(each, dim=1) * scale
        self._affine[norm] = _with_time(scale, shift, self._time.get(norm))
        return y


def _normed(norm: nn.GroupNorm, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Group norm of ``x`` (B, C, ...), and the means and inverse deviations (B, groups) of its groups."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        grouped = x.unflatten(1, (norm.num_groups, -1)).flatten(2)
        mean = grouped.mean(2)
        spread = torch.rsqrt((grouped - mean.unsqueeze(2)).square().mean(2) + norm.eps)
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps), mean, spread
    sizes = (len(x), x.shape[1], x[0, 0].numel())
    x = laid_out_for_norm(x, x.device.type)
    y, mean, spread = torch.native_group_norm(x, norm.weight, norm.bias, *sizes, norm.num_groups, norm.eps)
    return y, mean.float(), spread.float()


def laid_out_for_norm(x: torch.Tensor, device: str) -> torch.Tensor:
    """``x`` in a layout that ``torch.native_group_norm`` takes on a device of this type.

    On the CPU it takes channels-last memory as it is. On CUDA it takes contiguous memory only, and raises otherwise
    (``F.group_norm`` makes the same copy by itself). Contiguous memory is what every device takes.
    """
    return x if device == "cpu" else x.contiguous()


def _with_time(
    scale: torch.Tensor, shift: torch.Tensor, time: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift (B, C) of a norm together with what the time projection ``time`` does.

    A projection to C channels is added to the norm's input; one to 2 C channels scales and shifts its output.
    """
    if time is None:
        return scale, shift
    if time.shape[1] == scale.shape[1]:
        return scale, shift + scale * time
    more, added = time.chunk(2, dim=1)
    return scale * (1 + more), shift * (1 + more) + added


class _Processor:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a self-attention.

    Attributes:
        given: keys and values of the whole, and which tokens are seen; None where the call is of the whole.
        recorded: keys and values of the last call.
    """

    def __init__(self) -> None:
        self.given: Sequence[torch.Tensor] | None = None
        self.recorded: tuple[torch.Tensor, ...] = ()

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        queries, keys, values = (heads(layer(hidden_states), attn.heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        self.recorded = (keys, values)
        bias = None
        if self.given is not None:
            whole_keys, whole_values, bias = (tensor.to(keys.dtype) for tensor in self.given)
            keys, values = torch.cat([whole_keys, keys], dim=2), torch.cat([whole_values, values], dim=2)
        return merged(attn, F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias))


def _takes_time(module: nn.Module) -> bool:
    return isinstance(getattr(module, "time_emb_proj", None), nn.Linear) and hasattr(module, "norm2")


def _check(module: nn.Module, plain: set[int]) -> None:
    """Args:
        plain: the ``id`` of each attention that is queries, keys, values and nothing besides.

    Raises:
        Unsupported: the module mixes the whole picture in a way that is not recorded.
    """
    kind = type(module).__name__
    if kind in ("AdaGroupNorm", "SpatialNorm", "BatchNorm2d", "InstanceNorm2d", "DualTransformer2DModel"):
        raise Unsupported(f"a layer of kind {kind} looks at the whole picture")
    if kind == "Attention" and (id(module) not in plain or getattr(module, "added_kv_proj_dim", None) is not None):
        raise Unsupported("an attention is of another build than that of a transformer block")
    if getattr(module, "time_emb_proj", None) is not None and not _takes_time(module):
        raise Unsupported(f"a block of kind {kind} takes the time embedding in another way")
