"""What SDXL's denoiser is told of the picture's size (arXiv 2307.01952, section 2.2)."""

from __future__ import annotations

import torch

from pipeline.conditioning.conditions import Rows, fixed


class PictureSize:
    """Producer of ``time_ids`` (B, 6): the original size, where it was cut, and the size that is wanted.

    The denoiser is told that the picture is uncut and has the size that is wanted: both sizes are the picture's own,
    and the cut is 0.

    Args:
        factor: pixels of the picture in a pixel of the latent.
        device, dtype: of the denoiser.
    """

    def __init__(self, factor: int, device: torch.device, dtype: torch.dtype) -> None:
        self.revision = 0
        self._factor, self._device, self._dtype = factor, device, dtype

    def entries(self, rows: Rows) -> dict[str, torch.Tensor]:
        height, width = rows.height * self._factor, rows.width * self._factor
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=self._dtype)
        return {"time_ids": fixed(sizes.to(self._device), rows)}
