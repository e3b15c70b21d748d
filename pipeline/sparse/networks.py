"""What sparse inference asks of a backend. Only this module calls one, or knows how one differs from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from pipeline.backends import graphs
from pipeline.conditioning.attention_cache import AttentionCache, uncached_copy
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.sparse.packed import pack
from pipeline.sparse.stopwatch import HostStopwatch, stopwatch_for
from pipeline.sparse.window_unet import RecordingUNet, WindowUNet

# Backends that run windows. Graphs on a GPU can, one for each shape, but have not been measured; others build something
# for each shape that takes long.
IN_PARTS: tuple[str, ...] = ("eager", "openvino")
# A UNet of more weights than this is large: windows have few shapes, as each is another copy of the weights to a
# compiler, and PyTorch on a CPU runs them on layers whose weights are laid out beforehand.
LARGE = 300_000_000

UNetKind = type[RecordingUNet] | type[WindowUNet]
_NAMES: dict[UNetKind, str] = {RecordingUNet: "unet-whole", WindowUNet: "unet-part"}


class SparseNetworks:
    """A model's networks on whole pictures and on windows.

    Attributes:
        model: whose networks they are.
        backend: the model's own, which runs all of them.
        obstacle: why no windows are run here, as a sentence without a full stop; None where they are.
        any_shape: whether a window of any shape is run at once. If not, a network is prepared for each shape: a call
            orders it, and gives None until it is there.
        large: whether the UNet is a large one.
        stopwatch: starts a measurement of the device that the networks run on.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.backend = model, model.backend
        self.any_shape = self.backend.name == "eager"
        self.large = sum(parameter.numel() for parameter in model.unet.parameters()) > LARGE
        stopwatch = stopwatch_for(model.device)
        self.stopwatch = stopwatch or HostStopwatch
        self.obstacle: str | None = None
        if self.backend.name not in IN_PARTS:
            self.obstacle = f"{self.backend.name} runs whole pictures; only a still scene is spared"
        elif stopwatch is None:
            self.obstacle = (
                f"on {model.device.type} it cannot be measured whether windows are faster, so whole pictures are"
                " computed; only a still scene is spared"
            )
        self._modules: dict[UNetKind, RecordingUNet | WindowUNet] = {}

    # -- whole pictures -----------------------------------------------------------------------------------------------

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """As ``Backend.encode``."""
        return self.backend.encode(self._uploaded(pictures))

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None,
    ) -> torch.Tensor:
        """As ``Backend.denoise``."""
        return self.backend.denoise(rows, timesteps, embeddings, cache, layout, added)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """As ``Backend.decode``."""
        return self.backend.decode(latents)

    # -- windows of pictures ------------------------------------------------------------------------------------------

    def encode_window(self, pictures: torch.Tensor) -> torch.Tensor | None:
        """The same of a window; None where the network for its shape is not there yet."""
        if self.any_shape or not self.backend.shares_weights:  # OpenVINO's encoder takes all shapes
            return self.encode(pictures)
        return self._run("encoder", partial(graphs.Encoder, self.model), self._uploaded(pictures))

    def decode_window(self, latents: torch.Tensor) -> torch.Tensor | None:
        """The same of a window; None where the network for its shape is not there yet."""
        if self.any_shape:
            return self.decode(latents)
        if self.backend.shares_weights:
            return self._run("decoder", partial(graphs.Decoder, self.model), latents)
        from pipeline.backends.openvino.graph import Decoder

        # A decoder for all shapes takes half as long again as one for just this shape.
        return self._run("decoder", partial(Decoder, self.model.autoencoder), latents)

    def _run(self, name: str, make: Callable[[], torch.nn.Module], x: torch.Tensor) -> torch.Tensor | None:
        found = self.backend.network(name, make, [x], [])
        return None if found is None else found[0]

    def _uploaded(self, pictures: torch.Tensor) -> torch.Tensor:
        """``pictures``, on a CUDA model's device: copied from pinned memory, for which the host need not wait."""
        if self.model.device.type != "cuda" or pictures.device.type != "cpu":
            return pictures
        return pictures.contiguous().pin_memory().to(self.model.device, non_blocking=True)

    # -- the UNet's context, and windows of latents -------------------------------------------------------------------

    def unet(
        self, kind: UNetKind, moving: Sequence[torch.Tensor], staying: Sequence[torch.Tensor]
    ) -> list[torch.Tensor] | None:
        """What such a network gives for these inputs; None where it is not there yet for their shapes.

        Args:
            moving: the first inputs.
            staying: the others, mostly the very tensors of the call before.
        """
        if self.any_shape:
            return list(self.unet_module(kind)(*moving, *staying))
        return self.backend.network(_NAMES[kind], partial(self._for_compiler, kind), moving, staying)

    def prepare(self, kind: UNetKind) -> None:
        """Make beforehand what ``unet`` makes at its first call where windows of any shape are run."""
        if self.any_shape:
            self.unet_module(kind)

    def unet_module(self, kind: UNetKind) -> RecordingUNet | WindowUNet:
        """Such a network in PyTorch, on the model's own weights; windows of a large one may have them packed."""
        if kind not in self._modules:
            self._modules[kind] = kind(graphs.shared_copy(self.model.unet))
            if kind is WindowUNet and self.large:
                pack(self._modules[kind])
        return self._modules[kind]

    def unet_changed(self) -> None:
        """The UNet's weights or layers are others now."""
        self._modules = {}

    def _for_compiler(self, kind: UNetKind) -> RecordingUNet | WindowUNet:
        """One that is to be compiled or captured."""
        if self.backend.shares_weights:
            return kind(graphs.shared_copy(self.model.unet))
        return kind(uncached_copy(self.model.unet).float())
