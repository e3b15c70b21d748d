"""From pictures to masks of the people in them, in the size of the pictures."""

from __future__ import annotations

import torch

from pipeline.backends.backend import Backend
from pipeline.config import StreamConfig
from pipeline.masking.mask import Memory, cleaned, feathered, grown, resized, steadied
from pipeline.masking.segmenter import SIDE, PersonNetwork


def person_mask(pictures: torch.Tensor, network: PersonNetwork, backend: Backend) -> torch.Tensor:
    """Where people are, in each picture by itself.

    Args:
        pictures: (F, 3, H, W) float in 0..1.
        network: as it is made once for a device.
        backend: what runs it.

    Returns:
        (F, 1, H, W) float32 in 0..1, on the backend's device.
    """
    return resized(_found(_squares(pictures), network, backend), pictures)


class PersonFinder:
    """Masks of the frames of one stream, which are steady from frame to frame.

    Raises:
        MaskError: the network cannot be had.
    """

    def __init__(self, device: torch.device) -> None:
        self._network = PersonNetwork(device)
        self._memory: Memory | None = None

    def __call__(self, frames: torch.Tensor, backend: Backend, config: StreamConfig) -> torch.Tensor:
        """(F, 3, H, W) frames, in their order and on the model's device, to (F, 1, H, W) float32 in 0..1."""
        squares = _squares(frames)
        found = _found(squares, self._network, backend)
        masks, self._memory = steadied(found, squares, self._memory, config.mask_smoothing)
        # Growth and feather are in pixels of the picture, of which each of the mask's stands for more or fewer.
        height, width = frames.shape[-2:]
        across, down = SIDE / width, SIDE / height
        if config.mask_growth:
            masks = grown(masks, config.mask_growth * across, config.mask_growth * down)
        masks = feathered(masks, config.mask_feather * across, config.mask_feather * down)
        return resized(masks, frames)

    def forget(self) -> None:
        """The next frames are of another scene."""
        self._memory = None


def _squares(pictures: torch.Tensor) -> torch.Tensor:
    return resized(pictures.float(), pictures.new_empty(0, 0, SIDE, SIDE))


def _found(squares: torch.Tensor, network: PersonNetwork, backend: Backend) -> torch.Tensor:
    # A copy, too: the backend may write its next answer over this one.
    return cleaned(backend.run(network, {"squares": squares}, {})["masks"])
