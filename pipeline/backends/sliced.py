"""Running networks with little memory: a few rows at a time, a few queries of each self-attention at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from pipeline.backends.backend import Tensors, in_parts
from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.attention import Attention, heads, merged, self_attentions
from pipeline.models.networks import Network
from pipeline.models.residency import AUTOENCODER, DENOISER

if TYPE_CHECKING:
    from pipeline.models.model import Model

# How many are run at a time: rows of a call of the denoiser, rows of any other network, queries of a self-attention.
_ROWS, _ROWS_OF_OTHERS = 2, 1
_QUERIES = 1024
# Side in pixels from which on a full autoencoder goes over a picture tile by tile.
_TILE = 512


class SlicedBackend(EagerBackend):
    """Calls the networks' modules with a part of the rows at a time.

    Pictures stay the same, but for the seams of the tiles in which a full autoencoder goes over large ones.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._tile = _Tiles(_TILE, _TILE // model.autoencoder.factor)

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """See ``Backend``."""
        rows = len(next(iter(moving.values())))
        step = _ROWS if network.part == DENOISER else _ROWS_OF_OTHERS
        if rows <= step:
            return super().run(network, moving, staying)
        run = partial(super().run, network)
        return in_parts([(first, first + step, run) for first in range(0, rows, step)], moving, staying)

    def _made(self, network: Network) -> torch.nn.Module:
        module = super()._made(network)
        for attention in self_attentions(module):
            attention.processor = _SlicedAttention()
        if network.part == AUTOENCODER:
            self._tile.set(module.get_submodule(AUTOENCODER))
        return module


class _SlicedAttention:
    """Stands in for diffusers' ``AttnProcessor2_0`` in a self-attention: a part of the queries at a time.

    PyTorch's fused kernels need no memory for the scores. Where it has none (Apple's devices, old cards), the scores of
    all queries at once are the largest thing there is.
    """

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        queries, keys, values = (
            heads(project(hidden_states), attn.heads) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        parts = [F.scaled_dot_product_attention(part, keys, values) for part in queries.split(_QUERIES, dim=2)]
        return merged(attn, torch.cat(parts, dim=2))


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Sides of a full autoencoder's tiles, in pixels of the picture and of the latent."""

    picture: int
    latent: int

    def set(self, autoencoder: torch.nn.Module) -> None:
        """Have ``autoencoder`` go over large pictures in tiles, where it can; a tiny one needs none."""
        names = ("use_tiling", "tile_sample_min_size", "tile_latent_min_size")
        for name, value in zip(names, (True, self.picture, self.latent), strict=True):
            if hasattr(autoencoder, name) and type(autoencoder).__name__ != "AutoencoderTiny":
                setattr(autoencoder, name, value)
