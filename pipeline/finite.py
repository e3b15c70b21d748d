"""Notices numbers that are not finite on their way to a picture, without ever waiting for the device."""

from __future__ import annotations

from collections import deque

import torch

from pipeline.arriving import Arriving

# One picture in so many is looked at, which costs far less than a thousandth of making them.
EVERY = 16
# One pixel in so many is looked at in each direction. That is enough: norms spread a number that is not finite over the
# whole picture.
_STRIDE = 8

_WORDS = (
    "pictures come out black, as the model gives numbers that are not finite: its weights, a LoRA or the input may "
    "hold such numbers, or float16 is too small for it (choose the number format float32)"
)


class FiniteWatch:
    """Looks at latents and pictures now and then, and tells once where they are not finite.

    The answer is read when it has arrived.
    """

    def __init__(self) -> None:
        self._count = 0
        self._told = False
        self._news: list[str] = []
        self._pending: deque[Arriving] = deque()

    def look(self, latent: torch.Tensor, picture: torch.Tensor) -> None:
        """Look at a finished latent (F, C, h, w) and the picture (F, 3, H, W) made of it, where it is their turn."""
        self._count += 1
        if self._count % EVERY != 1:
            return
        finite = latent.isfinite().all() & picture[..., ::_STRIDE, ::_STRIDE].isfinite().all()
        self._pending.append(Arriving(finite))
        self._collect()

    def restart(self) -> None:
        """The next picture is looked at, and told of anew: something has changed."""
        self._count, self._told = 0, False

    def news(self) -> list[str]:
        """What has come up since the last call that the user should know."""
        self._collect()
        news, self._news = self._news, []
        return news

    def _collect(self) -> None:
        while self._pending and self._pending[0].there:
            self._note(self._pending.popleft().value != 0)

    def _note(self, finite: bool) -> None:
        if not finite and not self._told:
            self._news.append(_WORDS)
        self._told = not finite
