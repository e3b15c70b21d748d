"""A number on its way from the device to the host, which never waits for it."""

from __future__ import annotations

import torch


class Arriving:
    """One number that a device computes: there at once on a CPU, and on CUDA when the device has come to it.

    Args:
        number: a tensor of one element.
    """

    def __init__(self, number: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._number = number
        if number.device.type == "cuda":
            self._number = torch.empty(number.shape, dtype=number.dtype, pin_memory=True)
            self._number.copy_(number, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(number.device))

    @property
    def there(self) -> bool:
        """Whether ``value`` can be read without a wait."""
        return self._event is None or self._event.query()

    @property
    def value(self) -> float:
        """The number; to be read once it is ``there``."""
        return float(self._number)
