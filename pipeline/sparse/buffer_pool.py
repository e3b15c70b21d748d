"""Buffers that a network's output is kept in: parts of it are written anew while others still hold older outputs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.sparse.rectangles import Rectangle, cut

# Buffers that take turns: for the output that is shown, one that waits to be shown, one that is made, and a spare one.
MAX_BUFFERS = 4
# A buffer that is behind by more rectangles than this is copied as a whole.
MAX_MISSED = 32


class _Buffer:
    """Memory for one output, which is lent as a tensor, and taken back once nobody holds that tensor any more.

    Attributes:
        missed: where the content is older than the newest output; None for everywhere.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._memory = np.empty(tuple(shape), np.float32)
        self._lease: weakref.ref[np.ndarray] | None = None
        self.missed: list[Rectangle] | None = None

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes

    @property
    def free(self) -> bool:
        """Whether everything that was made of the tensor lent last is gone, too: views, slices, numpy arrays."""
        return self._lease is None or self._lease() is None

    def lend(self) -> torch.Tensor:
        """The memory as a tensor.

        The tensor's storage, which all views of it share, owns an array object that nobody else has. So that object
        lives exactly as long as somebody can still see the memory, and a weak reference tells when it is gone.
        Nothing is said of *how many* references there are, which Python does not promise to count in one place.
        """
        lease = self._memory.view()
        self._lease = weakref.ref(lease)
        return torch.from_numpy(lease)

    def fall_behind(self, rectangles: Sequence[Rectangle]) -> None:
        """The newest output, in another buffer, differs in ``rectangles`` from the one before."""
        if self.missed is not None:
            self.missed.extend(rectangles)
            if len(self.missed) > MAX_MISSED:
                self.missed = None


class BufferAgePool:
    """The newest output (B, C, H, W) of a network, and memory for the next ones.

    An output that was handed out stays as it is for as long as somebody holds it. So each change is made in another
    buffer. As with the buffers of a screen (EGL's "buffer age"), only what a buffer has missed is copied into it, and
    a buffer is used again once nobody holds anything in it. To copy the whole each time would take longer than a small
    window's network does.

    Attributes:
        newest: the output that was handed out last; None before the first.
    """

    def __init__(self, scale: int = 1) -> None:
        """``scale``: pixels of the output in a unit of the rectangles."""
        self.newest: torch.Tensor | None = None
        self._scale = scale
        self._buffers: list[_Buffer] = []
        self._current: _Buffer | None = None  # what ``newest`` lies in; None where it is not from this pool

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        pooled = sum(buffer.nbytes for buffer in self._buffers)
        return pooled + (self.newest.nbytes if self.newest is not None and self._current is None else 0)

    def forget(self) -> None:
        """Drop the newest output and all buffers."""
        self.newest, self._current, self._buffers = None, None, []

    def replace(self, output: torch.Tensor) -> torch.Tensor:
        """``output`` is the newest one, all of it new. Nobody may write to it from now on."""
        if self.newest is not None and self.newest.shape != output.shape:
            self.forget()
        for buffer in self._buffers:
            buffer.missed = None
        self.newest, self._current = output, None
        return output

    def changing(self, rectangles: Sequence[Rectangle]) -> torch.Tensor:
        """A tensor equal to the newest output, for the caller to write to inside ``rectangles`` (of all rows).

        It is the newest output from now on. The one before stays as it is for as long as somebody holds it.
        """
        assert self.newest is not None, "there has to be an output to change"
        before = self.newest
        if before.device.type != "cpu" or before.dtype != torch.float32:
            self.newest = before.clone()  # a GPU copies at no cost to speak of, and its memory is pooled by PyTorch
            return self.newest
        buffer = next((one for one in self._buffers if one is not self._current and one.free), None)
        if buffer is None:
            buffer = _Buffer(before.shape)
            if len(self._buffers) < MAX_BUFFERS:
                self._buffers.append(buffer)
        output = buffer.lend()
        if buffer.missed is None:
            output.copy_(before)
        else:
            for rectangle in buffer.missed:
                cut(output, rectangle, scale=self._scale).copy_(cut(before, rectangle, scale=self._scale))
        buffer.missed = []
        for other in self._buffers:
            if other is not buffer:
                other.fall_behind(rectangles)
        self.newest, self._current = output, buffer
        return output
