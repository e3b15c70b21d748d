"""Sparse inference in a stream: which parts of which slots are computed at which tick."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.acceleration.backend import Backend
from pipeline.acceleration.eager import EagerBackend
from pipeline.models.model import Model
from pipeline.sparse.autoencoder import SparseAutoencoder
from pipeline.sparse.chain import Unsupported
from pipeline.sparse.detector import ChangeDetector, Rectangle
from pipeline.sparse.region import Region

# A frame that changed in more than this share of its blocks is taken as wholly changed: a scene cut, or movement that
# dense computation is faster for.
DENSE_AREA = 0.5
# Every so many calls a frame is taken as wholly changed, which washes out whatever has drifted.
KEYFRAME_EVERY = 90


class SparseEngine:
    """Masks for a stream of T steps and F frames a call.

    At tick n, slot k of the stream batch holds frame n - k, and what the UNet keeps of slot k is of frame n - k - 1 at
    the very same step and noise. The two differ where frame n - k differed from its predecessor when it came in: so
    each frame's mask enters a FIFO with it, and moves on with it. A wholly changed frame (a *keyframe*) makes slot k
    dense at tick n + k, one slot a tick.

    Attributes:
        notes: what cannot be run sparsely here, and why, in words for the user.
        coder: what encodes and decodes the pictures.
        active: (F, H / 8, W / 8) bool, the blocks of the pictures decoded last that had changed; None before.
    """

    def __init__(self, model: Model) -> None:
        self.notes: list[str] = []
        self.active: np.ndarray | None = None
        self._autoencoder: SparseAutoencoder | None = None
        try:
            self._autoencoder = SparseAutoencoder(model.autoencoder.module)
        except Unsupported as problem:
            self.notes.append(f"pictures are encoded and decoded densely: {problem}")
        self._detectors: list[ChangeDetector] = []
        self._flight: deque[np.ndarray] = deque()  # (F, h, w) mask of the frame in each slot, slot 0 first
        self._arriving: np.ndarray | None = None  # of the frames that enter at the next tick
        self._size = (0, 0)
        self._since_keyframe = 0
        self._all_changed = False
        self._fresh = False
        self._unseen = False
        # Kept maps are PyTorch's: another backend has none, and computes pictures as a whole.
        self.coder: Backend = model.backend
        if self._autoencoder is not None and model.backend.name != "eager":
            self.coder = EagerBackend(model)
            self.notes.append(
                f"pictures are encoded and decoded by PyTorch, where they change; {model.backend.name} does the rest"
            )

    def inject(self) -> None:
        """Take the calls of the model's parts."""
        if self._autoencoder is not None:
            self._autoencoder.inject()

    def eject(self) -> None:
        """Give the model back as it was, and drop what is cached."""
        if self._autoencoder is not None:
            self._autoencoder.eject()

    @property
    def memory(self) -> int:
        """Bytes of the caches."""
        return self._autoencoder.memory if self._autoencoder is not None else 0

    def shares(self) -> dict[str, list[float]]:
        """Share of active tiles of each unit of each part at its last call, input to output."""
        return self._autoencoder.shares if self._autoencoder is not None else {}

    def begin(self, frames: torch.Tensor, steps: int) -> None:
        """The first frames (F, 3, H, W) of their kind are here and fill all slots: all their calls are dense."""
        self._start(frames)
        self._flight = deque([self._blank(False)] * steps, maxlen=steps)
        self._all_changed = False
        self._fresh = True

    def _start(self, frames: torch.Tensor) -> None:
        self._size = (frames.shape[2], frames.shape[3])
        self._detectors = [ChangeDetector() for _ in frames]
        for detector, frame in zip(self._detectors, frames.cpu(), strict=True):
            detector(frame)
        self._arriving = None
        self._unseen = False
        self._since_keyframe = 0
        self.inject()
        if self._autoencoder is not None:
            self._autoencoder.forget()

    def settings_changed(self, steps: int) -> None:
        """Frames in flight, and all frames from now on, become other pictures than before; there are T = ``steps``."""
        self._flight = deque([self._blank(True)] * steps, maxlen=steps)
        self._all_changed = True

    def missed(self) -> None:
        """Frames went by unseen, as the similarity filter skipped them: the next ones' rectangles do not tell all."""
        self._unseen = True

    def admit(
        self, frames: torch.Tensor, rectangles: Sequence[Sequence[Rectangle] | None] | None = None
    ) -> torch.Tensor | None:
        """Look for what changed in the next frames.

        Args:
            frames: (F, 3, H, W) float 0..1.
            rectangles: for each frame what changed since the frame before, where the source knows.

        Returns:
            What is to be encoded: the frames where they changed, and what was there before elsewhere. None where
            nothing changed, so that the latent before still holds.
        """
        if self._fresh:
            self._fresh = False
            return frames
        if len(self._detectors) != len(frames) or self._size != (frames.shape[2], frames.shape[3]):
            self._start(frames)
            self.settings_changed(self._flight.maxlen or 1)
            return frames
        known = [None] * len(frames) if rectangles is None or self._unseen else rectangles
        self._unseen = False
        masks = [
            detector(frame, rectangle)
            for detector, frame, rectangle in zip(self._detectors, frames.cpu(), known, strict=True)
        ]
        self._since_keyframe += 1
        for number, (detector, frame) in enumerate(zip(self._detectors, frames.cpu(), strict=True)):
            if self._since_keyframe >= KEYFRAME_EVERY or masks[number].mean() > DENSE_AREA:
                masks[number] = np.ones_like(masks[number])
                detector.take_all(frame)
        arriving = np.stack(masks)
        if arriving.all():
            self._since_keyframe = 0
        self._arriving = arriving
        region = Region(arriving, self._size)
        if self._autoencoder is not None:
            self._autoencoder.encode_next(region)
        if region.empty:
            return None
        return torch.stack([detector.picture for detector in self._detectors])

    def tick(self) -> None:
        """All frames in flight are about to take a step, and the last of them to be decoded."""
        arriving = self._arriving if self._arriving is not None else self._blank(False)
        if self._all_changed:
            arriving = self._blank(True)
        self._flight.appendleft(arriving)
        self._arriving, self._all_changed = None, False
        self.active = self._flight[-1]
        if self._autoencoder is not None:
            self._autoencoder.decode_next(Region(self.active, self._size))

    @property
    def still(self) -> bool:
        """Whether the pictures about to be decoded are those decoded last."""
        return self.active is not None and not self.active.any()

    def _blank(self, changed: bool) -> np.ndarray:
        height, width = self._size
        return np.full((len(self._detectors), -(-height // 8), -(-width // 8)), changed)
