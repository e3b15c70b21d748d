"""Guidance that a distilled model is told, instead of being asked twice (LCM, arXiv 2310.04378, section 4.3).

Guidance-distilled models take the scale as a sinusoidal embedding that is added to the timestep's. In diffusers they
are those whose configuration has ``time_cond_proj_dim``.
"""

from __future__ import annotations

import math

import torch

from pipeline.conditioning.conditions import Rows, fixed

# Scales are told in thousandths, as timesteps are.
_UNITS = 1000.0
_LONGEST_PERIOD = 10_000.0


class GuidanceEmbedding:
    """Producer of ``guidance_embedding`` (B, width).

    Args:
        width: of the embedding, as the model's ``time_cond_proj_dim`` says; 0 for a model that is not told.
        device, dtype: of the denoiser.
    """

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.revision = 0
        self._width, self._device, self._dtype = width, device, dtype
        self._scale = 1.0

    def set(self, scale: float) -> None:
        """Tell another guidance scale; 1 is no guidance."""
        if scale != self._scale:
            self._scale = scale
            self.revision += 1

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        if not self._width:
            return {}
        embedding = scale_embedding(self._scale, self._width, self._dtype)
        return {"guidance_embedding": fixed(embedding.to(self._device), rows)}


def scale_embedding(scale: float, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, width): sines, then cosines, of ``scale - 1`` at geometrically spaced frequencies; an odd width ends in 0."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=dtype) * -(math.log(_LONGEST_PERIOD) / (half - 1)))
    angles = torch.tensor((scale - 1) * _UNITS, dtype=dtype) * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()])
    return torch.nn.functional.pad(embedding, (0, width % 2)).unsqueeze(0)
