"""Sparse inference in a stream: which parts of which slots are computed at which tick."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.sparse.context_hooks import Unsupported
from pipeline.sparse.detector import ChangeDetector
from pipeline.sparse.rectangles import Change, Rectangle, cover, filled, grown, scaled
from pipeline.sparse.unet import WRITES, SparseUNet
from pipeline.sparse.windowed_autoencoder import ENCODER_WRITES, OfWindow, WindowedAutoencoder

# A frame of which the rectangles around its changes take up more than this is taken as wholly changed: a scene cut, or
# movement that dense computation is faster for.
DENSE_AREA = 0.5
# After so many wholly changed frames in a row the next are taken as such unseen, but for one in eight: to look for
# changes, and to keep what parts would need, would be all that a stream of them costs more than a dense one.
WHOLE_RUN, LOOK_EVERY = 4, 8
# Every so many calls a frame is taken as wholly changed, which washes out whatever has drifted.
KEYFRAME_EVERY = 90

# Backends that run windows. Graphs on a GPU can, one for each shape, but have not been measured; others build something
# for each shape that takes long.
IN_PARTS: tuple[str, ...] = ("eager", "openvino")


class SparseEngine:
    """Changes for a stream of T steps and F frames a call; to the stream, a ``Backend`` around the model's own.

    At tick n, slot k of the stream batch holds frame n - k, and what is kept of slot k is of frame n - k - 1 at the
    very same step and noise. The two differ where frame n - k differed from its predecessor when it came in: so each
    frame's change enters a FIFO with it, and moves on with it. A wholly changed frame (a *keyframe*) makes slot k
    dense at tick n + k, one slot a tick.

    Attributes:
        notes: what cannot be run sparsely here, and why, in words for the user.
    """

    def __init__(self, model: Model) -> None:
        self.notes: list[str] = []
        self._decoded: tuple[Change, ...] | None = None  # of the pictures decoded last
        self._backend = model.backend
        self.name, self.shares_weights = model.backend.name, model.backend.shares_weights
        self._factor = model.autoencoder.factor
        self._encoder = self._decoder = None
        self._unet: SparseUNet | None = None
        if self.name not in IN_PARTS:
            self.notes.append(f"sparse: {self.name} runs whole pictures; only a still scene is spared")
        elif model.autoencoder.is_tiny:
            encode, decode = self._backend.encode, self._backend.decode
            encode_window, decode_window = self._windows(model)
            self._encoder = WindowedAutoencoder(encode, self._factor, True, encode_window)
            self._decoder = WindowedAutoencoder(decode, self._factor, False, decode_window)
        else:
            self.notes.append("sparse: pictures are encoded and decoded as a whole: the autoencoder is not a tiny one")
        try:
            self._unet = SparseUNet(model) if self.name in IN_PARTS else None
        except Unsupported as problem:
            self.notes.append(f"sparse: the UNet runs on whole pictures: {problem}")
        self._detectors: list[ChangeDetector] = []
        self._flight: deque[tuple[Change, ...]] = deque()  # of the F frames in each slot, slot 0 first
        self._arriving: tuple[Change, ...] | None = None  # of the frames that enter at the next tick
        self._encoding: tuple[Change, ...] = ()
        self._ticking = False
        self._settling = 0  # ticks until what a whole call of the UNet has changed everywhere is through
        self._size = (0, 0)
        self._since_keyframe = 0
        self._in_a_row = 0  # frames that were wholly changed
        self._next_whole = False  # the next frame is going to be taken as wholly changed, whatever is in it
        self._whole: torch.Tensor | None = None  # frames that were taken so, which no detector has seen
        self._nothing_kept = False  # of what is computed at this tick, as none of it holds at the next
        self._all_changed = False
        self._fresh = False
        self._unseen = False

    @property
    def active(self) -> np.ndarray | None:
        """(F, H / 8, W / 8) bool, the blocks of the pictures decoded last that were computed anew; None before."""
        return None if self._decoded is None else np.stack([filled(change, *self._size) for change in self._decoded])

    @property
    def pictures(self) -> torch.Tensor:
        """(F, 3, H, W) the input as it is seen: each part of the frame last taken there. It goes on changing."""
        if self._whole is not None:
            return self._whole
        pictures = [detector.picture for detector in self._detectors]
        return pictures[0].unsqueeze(0) if len(pictures) == 1 else torch.stack(pictures)

    @property
    def memory(self) -> int:
        """Bytes that are kept of the last call."""
        return sum(part.memory for part in (self._encoder, self._unet, self._decoder) if part is not None)

    def shares(self) -> dict[str, float]:
        """Share of the picture that each network computed at its last call, halos included."""
        parts = {"encode": self._encoder, "unet": self._unet, "decode": self._decoder}
        return {name: 1.0 if self._nothing_kept else part.share for name, part in parts.items() if part is not None}

    def begin(self, frames: torch.Tensor, steps: int) -> None:
        """The first frames (F, 3, H, W) of their kind are here and fill all slots: all their calls are dense."""
        self._start(frames)
        self._flight = deque([self._each(())] * steps, maxlen=steps)
        self._all_changed = False
        self._fresh = True

    def _start(self, frames: torch.Tensor) -> None:
        self._size = (frames.shape[2], frames.shape[3])
        self._detectors = [ChangeDetector() for _ in frames]
        self._take_all(frames)
        self._arriving = None
        self._encoding = self._each(None)
        self._ticking = False
        self._decoded = None  # those were pictures of another kind, maybe of another size
        self._unseen = False
        self._since_keyframe = 0
        self._in_a_row = 0
        self._next_whole, self._whole, self._nothing_kept = False, None, False
        for part in (self._encoder, self._unet, self._decoder):
            if part is not None:
                part.forget()

    def _take_all(self, frames: torch.Tensor) -> None:
        for detector, frame in zip(self._detectors, frames.cpu(), strict=True):
            detector.take_all(frame)

    def settings_changed(self, steps: int) -> None:
        """Frames in flight, and all frames from now on, become other pictures than before; there are T = ``steps``."""
        self._flight = deque([self._each(None)] * steps, maxlen=steps)
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
        self._since_keyframe += 1
        looked = not self._next_whole
        self._arriving = tuple(map(self._look, self._detectors, frames.cpu(), known)) if looked else self._each(None)
        wholly = all(change is None for change in self._arriving)
        self._in_a_row = self._in_a_row + 1 if wholly else 0
        if wholly:
            self._since_keyframe = 0
        self._encoding = self._arriving
        told = any(rectangles is not None for rectangles in known)
        self._next_whole = not told and self._in_a_row >= WHOLE_RUN and self._in_a_row % LOOK_EVERY > 0
        self._whole = None
        if not looked and self._next_whole:
            self._whole = frames
        elif not looked:  # the next ones are compared with these
            self._take_all(frames)
        if not any(change is None or change for change in self._arriving):
            return None
        return self.pictures

    def _look(self, detector: ChangeDetector, frame: torch.Tensor, known: Sequence[Rectangle] | None) -> Change:
        """What changed in a frame, which is taken into the detector's picture there."""
        blocks = detector.look(frame) if known is None else filled(tuple(known), *self._size)
        change = cover(blocks) if blocks.mean() <= DENSE_AREA else ((0, 0, self._size[1], self._size[0]),)
        area = sum((right - left) * (bottom - top) for left, top, right, bottom in change)
        if self._since_keyframe >= KEYFRAME_EVERY or area > DENSE_AREA * self._size[0] * self._size[1]:
            detector.take_all(frame)
            return None
        detector.take(frame, change)
        return change

    def tick(self) -> None:
        """All frames in flight are about to take a step, and the last of them to be decoded."""
        arriving = self._arriving if self._arriving is not None else self._each(())
        # Where no frame came in, either: nothing is there of the tick before.
        if self._all_changed or self._nothing_kept:
            arriving = self._each(None)
        self._flight.appendleft(arriving)
        self._arriving, self._all_changed = None, False
        self._settling = max(0, self._settling - 1)
        # Switched on while frames are in flight, nothing is known of them before the next one comes in.
        if not self._detectors:
            return
        self._ticking = True
        self._decoded = self._flight[-1]
        self._nothing_kept = self._next_whole and all(change is None for frames in self._flight for change in frames)

    def moving(self) -> Rectangle | None:
        """In pixels of the latent, the box outside of which all slots are as at the tick before; None for everywhere.

        Within a tick that is everywhere once the UNet has been run on the whole, and so it is until what came of that
        has left the last slot.
        """
        if self._settling or not self._detectors or self._encoder is None or self._unet is None:
            return None
        boxes: list[Rectangle] = []
        for frames in self._flight:
            for change in frames:
                if change is None:
                    return None
                boxes += change
        if not boxes:
            return 0, 0, 0, 0
        left, top, right, bottom = zip(*boxes, strict=True)
        box = scaled((min(left), min(top), max(right), max(bottom)), self._factor)
        writes = max(WRITES, -(-ENCODER_WRITES // self._factor))
        return grown(box, writes, self._size[1] // self._factor, self._size[0] // self._factor)

    @property
    def still(self) -> bool:
        """Whether the pictures about to be decoded are those decoded last."""
        return bool(self._detectors) and not any(change is None or change for change in self._flight[-1])

    def _each(self, change: Change) -> tuple[Change, ...]:
        return (change,) * len(self._detectors)

    # -- as a backend -------------------------------------------------------------------------------------------------

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """As the backend, where ``admit`` found changes; the rest is as at the call before."""
        if self._encoder is None or self._next_whole:
            return self._backend.encode(pictures)
        return self._encoder(pictures, self._encoding)

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """As the backend; after a ``tick``, each row where its slot's frame changed."""

        def whole() -> torch.Tensor:
            return self._backend.denoise(rows, timesteps, embeddings, cache, layout, added)

        if self._unet is None or not self._ticking:
            return whole()
        self._ticking = False
        if self._nothing_kept:
            return whole()
        # Rows under a negative prompt, and those without the input, are of the slots in the same order once more.
        slots = [change for frames in self._flight for change in frames]
        changes = [slots[row % len(slots)] for row in range(len(rows))]
        output = self._unet(rows, timesteps, embeddings, cache, layout, changes, whole)
        if self._unet.share == 1:
            self._settling = len(self._flight)
        return output

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """As the backend, where the frames that leave the stream batch changed."""
        if self._decoder is None or self._nothing_kept:
            return self._backend.decode(latents)
        return self._decoder(latents, self._flight[-1] if self._flight else self._each(None))

    def _windows(self, model: Model) -> tuple[OfWindow | None, OfWindow | None]:
        """What encodes and decodes windows whose shapes have to be prepared; None where all shapes are alike."""
        if self.name == "eager":
            return None, None
        if self._backend.shares_weights:
            from pipeline.backends import graphs

            encode = self._by_network("encoder", partial(graphs.Encoder, model))
            return encode, self._by_network("decoder", partial(graphs.Decoder, model))
        from pipeline.backends.openvino.graph import Decoder

        # Its encoder takes all shapes. A decoder for all of them takes half as long again as one for just this shape.
        return self._backend.encode, self._by_network("decoder", partial(Decoder, model.autoencoder))

    def _by_network(self, name: str, make: Callable[[], torch.nn.Module]) -> OfWindow:
        def run(x: torch.Tensor) -> torch.Tensor | None:
            found = self._backend.network(name, make, [x], [])
            return None if found is None else found[0]

        return run

    def network(
        self,
        name: str,
        make: Callable[[], torch.nn.Module],
        moving: Sequence[torch.Tensor],
        staying: Sequence[torch.Tensor],
    ) -> list[torch.Tensor] | None:
        return self._backend.network(name, make, moving, staying)

    def weights_changed(self) -> None:
        if self._unet is not None:
            self._unet.weights_changed()
        self._backend.weights_changed()

    def wait(self) -> None:
        self._backend.wait()

    def news(self) -> list[str]:
        """As the backend that the windows are run on."""
        return self._backend.news()

    def close(self) -> None:
        """Drop what is kept; the backend is the model's, and stays open."""
        for part in (self._encoder, self._unet, self._decoder):
            if part is not None:
                part.forget()
