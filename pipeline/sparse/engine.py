"""Sparse inference in a stream: finds what changed, and has each network compute just that."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from pipeline.backends.backend import Backend, Tensors
from pipeline.conditioning.feature_bank import BANK_PREFIX
from pipeline.models.model import Model
from pipeline.models.networks import DecoderNetwork, DenoiserNetwork, EncoderNetwork, Network
from pipeline.models.residency import AUTOENCODER, DENOISER
from pipeline.sparse.context_hooks import Unsupported
from pipeline.sparse.effective_input import EffectiveInput
from pipeline.sparse.networks import SparseNetworks
from pipeline.sparse.progress import Phase, Progress
from pipeline.sparse.rectangles import FrameChanges, Rectangle, filled, grown, scaled
from pipeline.sparse.unet import SparseUNet
from pipeline.sparse.windowed_autoencoder import ENCODER_WRITE_MARGIN, WindowedAutoencoder


class SparseEngine:
    """Computes what changed for a stream of T steps and F frames a call; a ``Backend`` around the one it is given.

    Which changes are in which slot is the matter of ``Progress``; the engine tells it what happens, and does what
    follows: compares frames, and runs the networks on windows or on whole pictures.

    Attributes:
        name, capabilities, numbers, unbuilt, patient, lanes: of the backend.
        notes: what cannot be run sparsely here, and why, in words for the user.
        frames_bring: whether frames bring along what the denoiser is shown besides (a hint, a mask): then a frame that
            changed anywhere is another picture everywhere, and one that did not is the same.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self.name, self.capabilities, self.unbuilt = backend.name, backend.capabilities, backend.unbuilt
        self.numbers, self.patient, self.lanes = backend.numbers, backend.patient, backend.lanes
        self.notes: list[str] = []
        self.frames_bring = False
        self._factor = model.autoencoder.factor
        self._networks = SparseNetworks(model, backend)
        self._encoder = self._decoder = None
        self._unet: SparseUNet | None = None
        self._input: EffectiveInput | None = None  # None until the first frames are here
        self._progress = Progress()
        if self._networks.obstacle is not None:
            self.notes.append(f"sparse: {self._networks.obstacle}")
            return
        if model.autoencoder.is_tiny:
            self._encoder = WindowedAutoencoder.encoder(self._networks)
            self._decoder = WindowedAutoencoder.decoder(self._networks)
        else:
            self.notes.append("sparse: pictures are encoded and decoded as a whole: the autoencoder is not a tiny one")
        try:
            self._unet = SparseUNet(self._networks)
        except Unsupported as problem:
            self.notes.append(f"sparse: the UNet runs on whole pictures: {problem}")

    # -- what was computed --------------------------------------------------------------------------------------------

    @property
    def active(self) -> np.ndarray | None:
        """(F, H / 8, W / 8) bool, the blocks of the pictures decoded last that were computed anew; None before."""
        decoded = self._progress.decoded
        if decoded is None or self._input is None:
            return None
        return np.stack([filled(change, *self._input.size) for change in decoded])

    @property
    def pictures(self) -> torch.Tensor:
        """(F, 3, H, W) the input as the networks see it. It may go on changing: copy it to keep it.

        Raises:
            ValueError: no frames have come in yet.
        """
        if self._input is None:
            raise ValueError("the sparse engine has been given no frames yet")
        return self._input.pictures

    @property
    def memory(self) -> int:
        """Bytes that are kept of the last call."""
        return sum(part.memory for part in self._parts().values())

    def shares(self) -> dict[str, float]:
        """Share of the picture that each network computed at its last call, halos included."""
        everything = self._progress.keeps_nothing
        return {name: 1.0 if everything else part.share for name, part in self._parts().items()}

    def _parts(self) -> dict[str, WindowedAutoencoder | SparseUNet]:
        """Those networks that are run on windows."""
        parts = {"encode": self._encoder, "unet": self._unet, "decode": self._decoder}
        return {name: part for name, part in parts.items() if part is not None}

    # -- what happens in the stream -----------------------------------------------------------------------------------

    def begin(self, frames: torch.Tensor, steps: int) -> None:
        """The first frames (F, 3, H, W) of their kind are here and fill all slots: all their calls are dense."""
        self._start(frames)
        self._progress = self._progress.begun(len(frames), steps)

    def _start(self, frames: torch.Tensor) -> None:
        self._input = EffectiveInput(frames)
        for part in self._parts().values():
            part.forget()

    def settings_changed(self, steps: int) -> None:
        """Frames in flight, and all frames from now on, become other pictures than before; there are T = ``steps``."""
        self._progress = self._progress.settings_changed(steps)

    def missed(self) -> None:
        """Frames went by unseen, as the similarity filter skipped them: the next ones' rectangles do not tell all."""
        self._progress = self._progress.missed()

    def admit(
        self,
        frames: torch.Tensor,
        rectangles: Sequence[Sequence[Rectangle] | None] | None = None,
        needed: np.ndarray | None = None,
    ) -> torch.Tensor | None:
        """Look for what changed in the next frames.

        Args:
            frames: (F, 3, H, W) float 0..1.
            rectangles: for each frame what changed since the frame before, where the source knows.
            needed: (F, ceil(H / 8), ceil(W / 8)) bool, the blocks whose picture will be seen; all by default. What
                changes elsewhere waits until it is needed.

        Returns:
            What is to be encoded: the frames where they changed, and what was there before elsewhere. None where
            nothing changed, so that the latent before still holds.
        """
        progress = self._progress
        if progress.phase is Phase.FIRST_FRAMES:
            self._progress = progress.first_admitted()
            return frames
        if self._input is None or not self._input.matches(frames):
            self._start(frames)
            self._progress = progress.restarted(len(frames))
            return frames
        told = [None] * len(frames) if rectangles is None or progress.frames_missed else rectangles
        changes: FrameChanges = (None,) * len(frames)
        if progress.looks:
            changes = self._input.look(frames, told, progress.keyframe_due, needed)
            if self.frames_bring:
                changes = tuple(change if change == () else None for change in changes)
        self._progress = progress.admitted(changes, any(one is not None for one in told))
        if not progress.looks and self._progress.looks:
            self._input.take_all(frames)  # the next ones are compared with these
        elif not progress.looks:
            self._input.pass_by(frames)
        return None if all(change == () for change in changes) else self._input.pictures

    def tick(self) -> None:
        """All frames in flight are about to take a step, and the last of them to be decoded."""
        self._progress = self._progress.ticked()

    def moving(self) -> Rectangle | None:
        """In pixels of the latent, the box outside of which all slots are as at the tick before; None for everywhere.

        Within a tick that is everywhere once the UNet has been run on the whole, and so it is until what came of that
        has left the last slot.
        """
        box = self._progress.box
        if box is None or self._input is None or self._encoder is None or self._unet is None:
            return None
        if box == (0, 0, 0, 0):
            return box
        height, width = (side // self._factor for side in self._input.size)
        margin = max(self._unet.margin, -(-ENCODER_WRITE_MARGIN // self._factor))
        return grown(scaled(box, self._factor), margin, width, height)

    @property
    def still(self) -> bool:
        """Whether the pictures about to be decoded are those decoded last."""
        return self._progress.still

    # -- as a backend -------------------------------------------------------------------------------------------------

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """As the backend, but the three networks of pictures only where something changed."""
        if network.name == EncoderNetwork.name:
            return {"latents": self._encode(moving["pictures"])}
        if network.name == DenoiserNetwork.name:
            return self._denoise(network, moving, staying)
        if network.name == DecoderNetwork.name:
            return {"pictures": self._decode(moving["latents"])}
        return self._networks.backend.run(network, moving, staying)

    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Where ``admit`` found changes; the rest is as at the call before."""
        if self._encoder is None or not self._progress.keeps_latents:
            return self._networks.encode(pictures)
        return self._encoder(pictures, self._progress.encoded)

    def _denoise(self, network: Network, moving: Tensors, conditions: Tensors) -> dict[str, torch.Tensor]:
        """After a ``tick``, each row where its slot's frame changed."""
        progress = self._progress
        # What else moves with the frames, or was found in those before, may change where the pictures do not.
        shown = self.frames_bring or bool(moving.keys() - {"rows", "timesteps"})
        banked = any(name.startswith(BANK_PREFIX) for name in conditions)
        if self._unet is None or not progress.reuses or shown or banked:
            # Where no frame is another than at the tick before, the whole comes out as it was: not so with a bank.
            anew = not shown or banked or any(change != () for frames in progress.slots for change in frames)
            self._progress = progress.denoised(whole=anew) if progress.phase is Phase.IN_TICK else progress
            return self._networks.backend.run(network, moving, conditions)
        rows = moving["rows"]
        output = self._unet(rows, moving["timesteps"], conditions, progress.row_changes(len(rows)))
        self._progress = progress.denoised(whole=self._unet.any_whole)
        return {"output": output}

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Where the frames that leave the stream batch changed."""
        if self._decoder is None or self._progress.keeps_nothing:
            return self._networks.decode(latents)
        return self._decoder(latents, self._progress.leaving)

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        """See ``Backend``."""
        return self._networks.backend.ready(network, moving, staying)

    def weights_changed(self, parts: Collection[str]) -> None:
        """The weights of these parts of the model are others now."""
        if self._unet is not None and DENOISER in parts:
            self._unet.weights_changed()
        for part in (self._encoder, self._decoder):
            if part is not None and AUTOENCODER in parts:
                part.forget()

    def changed(self, part: str, *, moved: bool) -> None:
        """The backend is told by itself, and the engine by its stream (``weights_changed``)."""

    def release(self) -> None:
        """See ``Backend``."""
        self._networks.backend.release()

    def wait(self) -> None:
        self._networks.backend.wait()

    def news(self) -> list[str]:
        """As the backend that the windows are run on."""
        return self._networks.backend.news()

    def progress(self) -> str:
        """As the backend's."""
        return self._networks.backend.progress()

    def close(self) -> None:
        """Drop what is kept; the backend is the model's, and stays open."""
        for part in self._parts().values():
            part.forget()
