"""The model as PyTorch runs it: channels last, in the number format that the hardware is fastest in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.diffusion.guidance import RowLayout

if TYPE_CHECKING:
    from pipeline.models.model import Model


class EagerBackend:
    """Calls the model's own modules; nothing is built."""

    name = "eager"
    shares_weights = True

    def __init__(self, model: Model) -> None:
        self._model = model

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        # Uploaded first and converted there: the device does it faster, and the host need not wait for it.
        pictures = self._laid_out(pictures.to(self._model.device, non_blocking=True))
        return self._model.autoencoder.encode(pictures).float()

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        cache.select(layout)
        return self.ask(rows, timesteps, embeddings, added)

    def ask(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        added: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        """The UNet's answer to these rows, with the keys and values that its cache has selected."""
        rows = self._laid_out(rows)
        output = self._model.unet(rows, timesteps, embeddings, added_cond_kwargs=added, return_dict=False)[0]
        return output.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._model.autoencoder.decode(self._laid_out(latents))

    def network(self, *_: object, **__: object) -> None:
        return None  # the caller has the module

    def weights_changed(self) -> None:
        pass  # the modules are asked anew each time

    def wait(self) -> None:
        pass

    def news(self) -> list[str]:
        return []

    def close(self) -> None:
        pass

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._model.dtype, memory_format=torch.channels_last)
