"""Lanes: encoder, denoiser and decoder of successive frames beside each other, on CUDA streams of their own.

While a card denoises one frame, the decoder of the frame before and the encoder of the one after fill what the denoiser
leaves idle. What must hold:

- Within a lane everything runs in the order in which it was asked for; so nothing there is written while it is read.
- A lane begins only when what it is given is there: ``given`` names the tensors that come from another lane.
- Whatever else is done on the caller's own CUDA stream (a change of settings, a prompt, another mode) comes after all
  that the lanes were asked for before (``leave``), and before all that they are asked for afterwards (``fork``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


class Lanes:
    """Runs named stages on lanes of their own, where the device is CUDA; elsewhere, one after the other.

    Attributes:
        apart: whether stages run on their lanes; otherwise on the caller's CUDA stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.apart = False
        self._device = device
        self._streams: dict[str, torch.cuda.Stream] = {}
        self._forked = False

    def fork(self) -> None:
        """From here on stages run on their lanes, after all that the caller's CUDA stream was asked for so far.

        Where they already do, this does nothing: it may be called before each frame.
        """
        self.apart = self._device.type == "cuda"
        if self.apart and not self._forked:
            self._forked = True
            for stream in self._streams.values():
                stream.wait_stream(torch.cuda.current_stream(self._device))

    def leave(self) -> None:
        """From here on stages run on the caller's CUDA stream, after all that the lanes were asked for."""
        self.join()
        self.apart = self._forked = False

    def join(self) -> None:
        """The caller's CUDA stream goes on only after all that the lanes were asked for."""
        for stream in self._streams.values() if self._forked else ():
            torch.cuda.current_stream(self._device).wait_stream(stream)

    @contextlib.contextmanager
    def __call__(self, lane: str, *given: torch.Tensor, after: str | None = None) -> Iterator[None]:
        """Run the block on ``lane``.

        Args:
            given: what the block reads that was made on another lane; it stays in memory until it has been read.
            after: the lane that the block waits for.
        """
        if not self.apart:
            yield
            return
        stream = self._stream(lane)
        if after is not None:
            stream.wait_stream(self._stream(after))
        for tensor in given:
            if tensor.device.type == "cuda":
                tensor.record_stream(stream)
        with torch.cuda.stream(stream):
            yield

    def hand_over(self, tensor: torch.Tensor) -> None:
        """The caller will read ``tensor``, which a lane has made."""
        if self.apart and tensor.device.type == "cuda":
            tensor.record_stream(torch.cuda.current_stream(self._device))

    def _stream(self, lane: str) -> torch.cuda.Stream:
        if lane not in self._streams:
            stream = self._streams[lane] = torch.cuda.Stream(self._device)
            stream.wait_stream(torch.cuda.current_stream(self._device))
        return self._streams[lane]
