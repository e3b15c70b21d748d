"""What UNets made for inpainting are shown besides the latent: where to paint anew, and the picture without that part.

Each row is the latent, the mask and the latent of the masked picture, side by side, as Stable Diffusion's inpainting
models were trained and as diffusers' pipelines for these and for SDXL have it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from pipeline.backends.backend import Backend, Tensors
from pipeline.masking.compositor import Compositor
from pipeline.models.model import Model
from pipeline.models.networks import EncoderNetwork

# What a frame brings along as a part of the denoiser's rows, after the latent and in this order.
IN_ROWS = ("mask", "masked")
_EMPTY = 0.5  # what is painted anew is grey in the masked picture: zero in -1..1
_PAINTED = 0.5  # share of a pixel from which on it is painted anew


class Inpainting:
    """Companion of models that see a mask: the part of each frame that the setting ``only`` asks for is painted anew.

    Without such a part it is the whole picture, and nothing of the frame is shown; that is encoded only once.

    Args:
        model: whose UNet sees a mask.
        compositor: has the masks of the frames that have entered.
    """

    def __init__(self, model: Model, compositor: Compositor) -> None:
        self._encoder, self._compositor = EncoderNetwork(model), compositor
        self._device = model.device
        self._whole: Tensors | None = None

    def bring(self, frames: torch.Tensor, backend: Backend, hints: Mapping[str, torch.Tensor]) -> Tensors:
        """See ``Companion``: ``mask`` (F, 1, h, w), 1 where it is painted anew, and ``masked`` (F, C, h, w)."""
        painted = self._compositor.painted
        if painted is not None:
            return self._shown(*painted, backend)
        if self._whole is None:
            nothing = torch.zeros(frames.shape, device=self._device)
            self._whole = self._shown(nothing, torch.ones_like(nothing[:, :1]), backend)
        return self._whole

    def reset(self) -> None:
        """See ``Companion``: the next frames may be of another shape."""
        self._whole = None

    def _shown(self, frames: torch.Tensor, shares: torch.Tensor, backend: Backend) -> Tensors:
        """Of frames (F, 3, H, W) in 0..1, of which these shares (F, 1, H, W) are painted anew."""
        anew = shares >= _PAINTED
        latents = backend.run(self._encoder, {"pictures": frames.masked_fill(anew, _EMPTY)}, {})["latents"]
        return {"mask": F.interpolate(anew.to(latents.dtype), latents.shape[2:]), "masked": latents}
