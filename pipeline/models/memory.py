"""Running a model in less memory than it takes at full speed: in slices, and with its weights in main memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.attention_cache import AttentionCache, heads, merged, self_attentions
from pipeline.config import MEMORY_MODES
from pipeline.diffusion.guidance import RowLayout

if TYPE_CHECKING:
    from pipeline.models.model import Model

# At a time: rows of a UNet call, and queries of a self-attention.
_ROWS = 2
_QUERIES = 1024
# Side in pixels from which on a full autoencoder goes over a picture tile by tile.
_TILE = 512


class MemorySaver:
    """How much memory a model may take: ``full``, ``sliced`` or ``offload``; each way leads back.

    ``sliced``: few rows go through the UNet at a time, and few queries through its self-attentions; pictures are
    encoded and decoded one by one, and large ones by a full autoencoder in tiles. Pictures stay the same, but for the
    seams of those tiles. ``offload``: besides, weights stay in main memory, and each layer's are on the device while it
    runs; the text encoders run on the CPU.

    Attributes:
        mode: one of ``MEMORY_MODES``.
    """

    def __init__(self, model: Model) -> None:
        self.mode = "full"
        self._unet, self._prompts, self._device = model.unet, model.prompts, model.device
        self._autoencoder = model.autoencoder
        self._attentions: dict[Any, Any] = {}
        self._tiling: dict[str, Any] = {}
        self._homes = [_Home(model.unet, self._device)]
        if not model.autoencoder.is_tiny:  # a tiny one is not worth the way
            self._homes.append(_Home(model.autoencoder.module, self._device))

    def set(self, mode: str) -> None:
        """Go over to ``mode``; where memory does not suffice for it, what was before stays.

        Raises:
            ValueError: there is no such mode.
            torch.OutOfMemoryError: the device has no room for the weights.
        """
        if mode not in MEMORY_MODES:
            raise ValueError(f"the memory is {mode!r}; it must be one of {', '.join(MEMORY_MODES)}")
        if (mode == "offload") != (self.mode == "offload"):
            try:
                self._house(at_home=mode == "offload")
            except BaseException:
                self._house(at_home=self.mode == "offload")
                raise
        if (mode == "full") != (self.mode == "full"):
            self._slice() if self.mode == "full" else self._join()
        self.mode = mode

    def _house(self, *, at_home: bool) -> None:
        for home in self._homes:
            home.inject() if at_home else home.eject()
        for encoder in self._prompts.encoders:
            encoder.module.to("cpu" if at_home else self._device)

    def _slice(self) -> None:
        for attention in self_attentions(self._unet):
            self._attentions[attention] = attention.processor
            attention.processor = _SlicedAttention()
        if not self._autoencoder.is_tiny:
            module = self._autoencoder.module
            tiling = {
                "use_tiling": True,
                "tile_sample_min_size": _TILE,
                "tile_latent_min_size": _TILE // self._autoencoder.factor,
            }
            self._tiling = {name: getattr(module, name) for name in tiling}
            for name, value in tiling.items():
                setattr(module, name, value)

    def _join(self) -> None:
        for attention, processor in self._attentions.items():
            attention.processor = processor
        for name, value in self._tiling.items():
            setattr(self._autoencoder.module, name, value)
        self._attentions, self._tiling = {}, {}


class SlicedBackend(EagerBackend):
    """Calls the model's own modules with a part of the rows at a time; the results are those of the whole."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([super(SlicedBackend, self).encode(one) for one in pictures.split(1)])

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        keys_values = cache.laid_out(layout)
        outputs = []
        for first in range(0, len(rows), _ROWS):
            part = slice(first, first + _ROWS)
            cache.use([tensor[part] for tensor in keys_values])
            more = None if added is None else {name: tensor[part] for name, tensor in added.items()}
            outputs.append(self.ask(rows[part], timesteps[part], embeddings[part], more))
        return torch.cat(outputs)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.cat([super(SlicedBackend, self).decode(one) for one in latents.split(1)])


class _SlicedAttention:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a self-attention: a part of the queries at a time.

    PyTorch's fused kernels need no memory for the scores. Where it has none (Apple's devices, old cards), the scores of
    all queries at once are the largest thing there is.
    """

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        queries, keys, values = (
            heads(project(hidden_states), attn.heads) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        parts = [F.scaled_dot_product_attention(part, keys, values) for part in queries.split(_QUERIES, dim=2)]
        return merged(attn, torch.cat(parts, dim=2))


class _Home:
    """Keeps a module's weights in main memory; a layer's are on ``device`` while it runs, and no longer.

    ``inject`` and ``eject`` are exact inverses. The parameters stay the same objects, so that whoever changes them (a
    LoRA) changes what is taken to the device the next time.
    """

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self._module = module
        self._device = device
        self._hooks: list[Any] = []
        self._away: dict[torch.nn.Module, dict[str, Any]] = {}  # the parameters of the layers that run now

    def inject(self) -> None:
        """Take the weights to main memory; buffers, which are small, stay on the device."""
        self._module.to("cpu")
        self._unhook()
        for layer in self._module.modules():
            for name, buffer in layer._buffers.items():
                layer._buffers[name] = None if buffer is None else buffer.to(self._device)
            if any(parameter is not None for parameter in layer._parameters.values()):
                self._hooks.append(layer.register_forward_pre_hook(self._lend))
                # In any case: a layer that runs out of memory must have its weights back, too.
                self._hooks.append(layer.register_forward_hook(self._take_back, always_call=True))

    def eject(self) -> None:
        """Take the weights to the device, to stay."""
        self._module.to(self._device)
        self._unhook()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _lend(self, layer: Any, _: Any) -> None:
        self._away[layer] = dict(layer._parameters)
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                layer._parameters[name] = parameter.to(self._device, non_blocking=True)

    def _take_back(self, layer: Any, *_: Any) -> None:
        layer._parameters.update(self._away.pop(layer, {}))
