"""What a frame brings along for the denoiser besides its latent: features of a hint, a mask.

It is made once for each frame, where the frame is encoded, and travels with it through the slots, so that the denoiser
is shown a frame's own at each of its T steps (``pipeline/diffusion/slots.py``). A new kind is a new companion in the
list of ``Stream``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from pipeline.backends.backend import Backend

# Hints that were made elsewhere, by the name of the hint: (F, 3, H, W) in 0..1.
Hints = Mapping[str, torch.Tensor]


class Companion(Protocol):
    """Makes one kind of what frames bring along."""

    def bring(self, frames: torch.Tensor, backend: Backend, hints: Hints) -> Mapping[str, torch.Tensor]:
        """By name, what these frames bring along, (F, channels, height, width) each; nothing while it is off.

        Args:
            frames: (F, 3, H, W) in 0..1, as they were given to the stream.
            backend: what runs networks.
            hints: made by the caller of the stream, in the place of those that would be made of the frames.
        """
        ...

    def reset(self) -> None:
        """The next frames come from another source, or much later: forget the frames before."""
        ...


def brought(
    companions: Sequence[Companion], frames: torch.Tensor, backend: Backend, hints: Hints
) -> dict[str, torch.Tensor]:
    """What all of them bring along."""
    together: dict[str, torch.Tensor] = {}
    for companion in companions:
        together |= companion.bring(frames, backend, hints)
    return together
