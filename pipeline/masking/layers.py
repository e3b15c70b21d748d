"""The picture put together from what is styled and what is real: the person in front, and what stands behind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from pipeline.backdrop import Backdrop, Behind
from pipeline.masking.mask import blurred

# Of the share that the background has around a pixel; keeps the blur of what is wholly hidden a number.
_HIDDEN = 1e-3
# Below one part in so many of opacity, colours go to black.
_FAINT = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """What the camera saw, for when its picture is there.

    Attributes:
        frames: (F, 3, H, W) float32 in 0..1, on the model's device.
        masks: (F, 1, H, W) float32: 1 where the person is.
    """

    frames: torch.Tensor
    masks: torch.Tensor


def styled_parts(only: str, kind: Behind) -> tuple[bool, bool]:
    """Whether the person, and whether what is behind, is shown as the model paints it.

    Args:
        only: one of ``STYLED_PARTS``.
        kind: of the background.
    """
    return only != "background", only != "person" and kind in (Behind.AS_IT_IS, Behind.BLUR)


def composed(
    styled: torch.Tensor, scene: Scene, only: str, backdrop: Backdrop, picture: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The picture as it is to be shown, and how opaque it is.

    Args:
        styled: (F, 3, H, W) what the model has made of the frames of ``scene``.
        only: one of ``STYLED_PARTS``: what is taken from ``styled``; the rest is taken from the camera.
        backdrop: what stands behind the person.
        picture: (1, 3, H, W) that of a backdrop which is one.

    Returns:
        (F, 3, H, W), and (F, 1, H, W) where nothing stands behind, else None. Colours are not multiplied with the
        opacity (straight alpha), and black where nothing is, so that what was to be hidden is not in the picture.
    """
    person = scene.frames if only == "background" else styled
    if backdrop.kind is Behind.NOTHING:
        return person * (scene.masks * _FAINT).clamp_max(1), scene.masks
    behind = scene.frames if only == "person" else styled
    if backdrop.kind is Behind.BLUR:
        behind = _blurred_without(behind, scene.masks, backdrop.blur)
    elif backdrop.kind is Behind.COLOUR:
        behind = _colour(backdrop.colour, styled.device, styled.dtype)
    elif picture is not None:
        behind = picture
    return torch.lerp(behind.expand_as(person), person, scene.masks), None


def _blurred_without(behind: torch.Tensor, masks: torch.Tensor, deviation: float) -> torch.Tensor:
    """What is behind, blurred as if the person were not there: nobody has a halo of his own colours."""
    shares = 1 - masks
    sums, share = blurred(torch.cat([behind * shares, shares], 1), deviation).split((3, 1), 1)
    return sums / (share + _HIDDEN)


@lru_cache(maxsize=8)
def _colour(colour: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(1, 3, 1, 1), kept on the device, as each upload of it would hold the host up."""
    return (torch.tensor(colour, device=device, dtype=dtype) / 255).view(1, 3, 1, 1)
