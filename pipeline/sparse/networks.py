"""What sparse inference asks of a backend. Only this module calls one, or knows how one differs from another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pipeline.backends.backend import Backend, Tensors
from pipeline.backends.eager import LARGE
from pipeline.device import uploaded
from pipeline.models.model import Model
from pipeline.models.networks import DecoderNetwork, DenoiserNetwork, EncoderNetwork, Network, sharing_weights
from pipeline.models.residency import DENOISER
from pipeline.sparse.stopwatch import HostStopwatch, Untimed, stopwatch_for
from pipeline.sparse.window_unet import RecordingUNet, WindowUNet


class EncoderOfWindows(EncoderNetwork):
    """The encoder, for backends that prepare something for each shape of window."""

    name, open_sizes, window = "encoder/window", False, True


class DecoderOfWindows(DecoderNetwork):
    """The decoder for one shape of window: one for all shapes takes half as long again in OpenVINO."""

    name, open_sizes, window = "decoder/window", False, True


_SURROUNDED = "/surrounded"


class RecordingNetwork:
    """The UNet on whole pictures, which records what windows have to know of them (see ``RecordingUNet``)."""

    name, part, open_sizes, window = "denoiser/recording", DENOISER, False, False

    def __init__(self, model: Model, *, surrounded: bool = False) -> None:
        self.name += _SURROUNDED * surrounded
        self._model, self._surrounded = model, surrounded

    def module(self) -> nn.Module:
        unet = sharing_weights(self._model.unet)
        return RecordingUNet(unet, self._model.dtype, surrounded=self._surrounded)


class WindowNetwork:
    """The UNet on windows (see ``WindowUNet``)."""

    name, part, open_sizes, window = "denoiser/window", DENOISER, False, True

    def __init__(self, model: Model, *, surrounded: bool = False) -> None:
        self.name += _SURROUNDED * surrounded
        self._model, self._surrounded = model, surrounded

    def module(self) -> nn.Module:
        unet = sharing_weights(self._model.unet)
        return WindowUNet(unet, self._model.dtype, surrounded=self._surrounded)


class SparseNetworks:
    """A model's networks on whole pictures and on windows.

    Attributes:
        model: whose networks they are.
        backend: what runs all of them.
        obstacle: why no windows are run here, as a sentence without a full stop; None where they are.
        any_shape: whether a window of any shape is run at once. If not, a network is prepared for each shape: a call
            orders it, and gives None until it is there.
        large: whether the UNet is a large one: windows then have few shapes, as each is another copy of the weights.
        stopwatch: starts a measurement of the device that the networks run on.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self.model, self.backend = model, backend
        self.any_shape = backend.capabilities.any_shape
        self.large = model.unet_weights > LARGE
        # Where all pictures of a file are to come out the same each time, windows are chosen by their area alone.
        stopwatch = Untimed if backend.patient else stopwatch_for(model.device)
        self.stopwatch = stopwatch or HostStopwatch
        self.obstacle: str | None = None
        if not backend.capabilities.windows:
            self.obstacle = f"{backend.name} runs whole pictures here; only a still scene is spared"
        elif stopwatch is None:
            self.obstacle = (
                f"on {model.device.type} it cannot be measured whether windows are faster, so whole pictures are"
                " computed; only a still scene is spared"
            )
        self._encoder, self._decoder = EncoderNetwork(model), DecoderNetwork(model)
        self._encoder_of_windows, self._decoder_of_windows = EncoderOfWindows(model), DecoderOfWindows(model)
        self._denoiser = DenoiserNetwork(model)
        self.surround(False)

    def surround(self, surrounded: bool) -> None:
        """Run windows of the UNet surrounded from now on, or not (see ``ContextHooks``)."""
        self._recording = RecordingNetwork(self.model, surrounded=surrounded)
        self._window = WindowNetwork(self.model, surrounded=surrounded)

    # -- whole pictures -----------------------------------------------------------------------------------------------

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(F, 3, H, W) in 0..1 to (F, C, h, w) latents."""
        return self.backend.run(self._encoder, {"pictures": uploaded(pictures, self.model.device)}, {})["latents"]

    def denoise(self, moving: Tensors, conditions: Tensors) -> torch.Tensor:
        """The denoiser's output (B, C, h, w)."""
        return self.backend.run(self._denoiser, moving, conditions)["output"]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(F, C, h, w) latents to (F, 3, H, W) in 0..1."""
        return self.backend.run(self._decoder, {"latents": latents}, {})["pictures"]

    # -- windows of pictures ------------------------------------------------------------------------------------------

    def encode_window(self, pictures: torch.Tensor) -> torch.Tensor | None:
        """The same of a window; None where the network for its shape is not there yet."""
        if self.any_shape or self.backend.capabilities.open_sizes:
            return self.encode(pictures)
        moving = {"pictures": uploaded(pictures, self.model.device)}
        found = self._prepared(self._encoder_of_windows, moving, {})
        return None if found is None else found["latents"]

    def decode_window(self, latents: torch.Tensor) -> torch.Tensor | None:
        """The same of a window; None where the network for its shape is not there yet."""
        if self.any_shape:
            return self.decode(latents)
        found = self._prepared(self._decoder_of_windows, {"latents": latents}, {})
        return None if found is None else found["pictures"]

    # -- the UNet's context, and windows of latents -------------------------------------------------------------------

    def record(
        self, rows: torch.Tensor, timesteps: torch.Tensor, conditions: Tensors, *, at_once: bool = False
    ) -> dict[str, torch.Tensor] | None:
        """As ``RecordingUNet``; None where it is not there yet for these shapes, unless it is needed ``at_once``."""
        moving = {"rows": rows, "timesteps": timesteps}
        if at_once:
            return self.backend.run(self._recording, moving, conditions)
        return self._prepared(self._recording, moving, conditions)

    def on_windows(
        self, rows: torch.Tensor, conditions: Mapping[str, torch.Tensor], context: Tensors, borders: Tensors
    ) -> dict[str, torch.Tensor] | None:
        """As ``WindowUNet``; None where it is not there yet for these shapes.

        Args:
            conditions: of these rows; mostly the very tensors of the call before.
            context: what is known of the whole: mostly the very tensors of the call before, written to in between.
            borders: what lies around these windows.
        """
        conditions = {name: tensor for name, tensor in conditions.items() if WindowUNet.takes(name)}
        if self.backend.capabilities.reads_in_place:
            return self._prepared(self._window, {"rows": rows, **borders}, {**conditions, **context})
        return self._prepared(self._window, {"rows": rows, **borders, **context}, conditions)

    def prepare_windows(self) -> None:
        """Make beforehand what ``on_windows`` makes at its first call where windows of any shape are run."""
        if self.any_shape:
            self.backend.ready(self._window, {}, {})

    def _prepared(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor] | None:
        if not self.any_shape and not self.backend.ready(network, moving, staying):
            return None
        return self.backend.run(network, moving, staying)
