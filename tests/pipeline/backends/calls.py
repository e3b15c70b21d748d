"""The three networks of a model as calls, for tests of backends."""

from __future__ import annotations

import torch

from pipeline.backends.backend import Backend
from pipeline.models.model import Model
from pipeline.models.networks import DecoderNetwork, EncoderNetwork


def encoded(backend: Backend, model: Model, pictures: torch.Tensor) -> torch.Tensor:
    """(F, 3, H, W) to latents, as ``backend`` runs the encoder."""
    return backend.run(EncoderNetwork(model), {"pictures": pictures}, {})["latents"]


def decoded(backend: Backend, model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Latents to (F, 3, H, W), as ``backend`` runs the decoder."""
    return backend.run(DecoderNetwork(model), {"latents": latents}, {})["pictures"]
