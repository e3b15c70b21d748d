"""Notices numbers that are not finite on their way to a picture, without ever waiting for the device."""

from __future__ import annotations

from collections import deque

import torch

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

    On a CPU the answer is there at once. On a device it is fetched by a copy of one byte, and read when it has arrived.
    """

    def __init__(self) -> None:
        self._count = 0
        self._told = False
        self._news: list[str] = []
        self._pending: deque[tuple[torch.Event, torch.Tensor]] = deque()

    def look(self, latent: torch.Tensor, picture: torch.Tensor) -> None:
        """Look at a finished latent (F, C, h, w) and the picture (F, 3, H, W) made of it, where it is their turn."""
        self._count += 1
        if self._count % EVERY != 1:
            return
        self._collect()
        finite = latent.isfinite().all() & picture[..., ::_STRIDE, ::_STRIDE].isfinite().all()
        if latent.device.type != "cuda":
            self._note(bool(finite))
            return
        arrived = torch.empty((), dtype=torch.bool, pin_memory=True)
        arrived.copy_(finite, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(latent.device))
        self._pending.append((event, arrived))

    def restart(self) -> None:
        """The next picture is looked at, and told of anew: something has changed."""
        self._count, self._told = 0, False

    def news(self) -> list[str]:
        """What has come up since the last call that the user should know."""
        self._collect()
        news, self._news = self._news, []
        return news

    def _collect(self) -> None:
        while self._pending and self._pending[0][0].query():
            self._note(bool(self._pending.popleft()[1]))

    def _note(self, finite: bool) -> None:
        if not finite and not self._told:
            self._news.append(_WORDS)
        self._told = not finite
