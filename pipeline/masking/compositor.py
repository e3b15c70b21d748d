"""What a stream does about the person: a mask as frames come in, and the parts put together as their pictures leave.

What the camera saw travels beside the latents, so that a picture is put together with its own frame and mask however
many steps lie between. Nothing is stored and nothing is run while the settings ask for nothing.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.backdrop import Backdrop, Behind, parse_backdrop
from pipeline.backends.backend import Backend
from pipeline.config import StreamConfig
from pipeline.masking.background import BackgroundPictures
from pipeline.masking.layers import Scene, composed, styled_parts
from pipeline.masking.person import PersonFinder
from pipeline.masking.segmenter import MaskError
from pipeline.trail import Trail

_BLOCK = 8  # pixels in which the blocks are counted that are to be computed
_SEEN = 1 / 512  # of a pixel's share, from which on it is seen
_MARGIN = 2  # blocks around the mask: what moves next, and what the model sees beside


class Compositor:
    """For one stream; positions are those of the stream batch.

    Attributes:
        pictures: of backgrounds.
    """

    def __init__(self, device: torch.device) -> None:
        self.pictures = BackgroundPictures(device)
        self._device = device
        self._finder: PersonFinder | None = None
        self._missing = False  # the network cannot be had
        self._config = StreamConfig()
        self._backdrop = Backdrop()
        self._entering: Scene | None = None
        self._scenes: Trail[Scene] = Trail()

    @property
    def active(self) -> bool:
        """Whether anything is asked of the mask."""
        asked = self._config.only != "everything" or self._backdrop.kind is not Behind.AS_IT_IS
        return asked and not self._config.text_to_image and not self._missing

    def follow(self, config: StreamConfig) -> list[str]:
        """Take other settings, whose picture has been read; notes for the user."""
        self._config, self._backdrop = config, parse_backdrop(config.background)
        if not self.active:
            if not self._missing:
                self._finder = None
            return []
        if self._finder is None:
            try:
                self._finder = PersonFinder(self._device)
            except MaskError as error:
                self._missing = True
                return [f"{error} Until then the whole picture is styled."]
        return []

    def enter(self, frames: torch.Tensor, backend: Backend) -> torch.Tensor:
        """Find the people in the next frames (F, 3, H, W), and keep both for later; the frames, on the device."""
        if not self.active or self._finder is None:
            self._entering = None
            return frames
        # A copy: whoever gave the frames may write to them again before their picture is there.
        kept = frames.to(self._device, torch.float32, copy=True, non_blocking=True)
        self._entering = Scene(kept, self._finder(kept, backend, self._config))
        return kept

    def prime(self, steps: int) -> None:
        """The frames that have entered are at all positions, of which there are ``steps`` besides the first."""
        self._scenes.prime(self._entering, steps)

    def tick(self) -> None:
        """The frames that have entered last move in, and all others one position on."""
        self._scenes.tick(self._entering)

    def resize(self, steps: int) -> None:
        """There are ``steps`` positions besides the first now."""
        self._scenes.resize(steps)

    def clear(self) -> None:
        """Nothing is in flight, and what comes next may be of another scene."""
        self._scenes.clear()
        self._entering = None
        if self._finder is not None:
            self._finder.forget()

    def needed(self) -> np.ndarray | None:
        """(F, ceil(H / 8), ceil(W / 8)) bool, the blocks of the entering frames whose styled picture will be seen.

        None for all; and on a device whose masks the host would have to wait for.
        """
        scene = self._entering
        if scene is None or self._device.type != "cpu":
            return None
        person, behind = styled_parts(self._config.only, self._backdrop.kind)
        if person and behind:
            return None
        shares = scene.masks if person else 1 - scene.masks if behind else torch.zeros_like(scene.masks)
        blocks = F.max_pool2d((shares > _SEEN).float(), _BLOCK, ceil_mode=True)
        return F.max_pool2d(blocks, 2 * _MARGIN + 1, 1, _MARGIN)[:, 0].bool().numpy()

    @property
    def painted(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The frames that have entered last (F, 3, H, W), and which share of each pixel is styled, (F, 1, H, W).

        None where all of them is.
        """
        scene, only = self._entering, self._config.only
        if scene is None or only == "everything":
            return None
        return scene.frames, scene.masks if only == "person" else 1 - scene.masks

    def finish(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The picture (F, 3, H, W) that was decoded last, put together, and its opacity (see ``composed``)."""
        scene = self._scenes.shown
        if scene is None or not self.active:
            return image, None
        backdrop = self._backdrop
        picture = None
        if backdrop.kind is Behind.PICTURE:
            picture = self.pictures.fitted(backdrop.path, *image.shape[-2:])
        return composed(image, scene, self._config.only, backdrop, picture)

    @property
    def shown(self) -> Scene | None:
        """What the camera saw of the picture that was decoded last."""
        return self._scenes.shown
