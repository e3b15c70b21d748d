"""The three networks of a model as calls, and a backend that tells of its calls, for tests of backends."""

from __future__ import annotations

import torch

from pipeline.backends.backend import Backend, Tensors
from pipeline.models.model import Model
from pipeline.models.networks import DecoderNetwork, EncoderNetwork, Network


def encoded(backend: Backend, model: Model, pictures: torch.Tensor) -> torch.Tensor:
    """(F, 3, H, W) to latents, as ``backend`` runs the encoder."""
    return backend.run(EncoderNetwork(model), {"pictures": pictures}, {})["latents"]


def decoded(backend: Backend, model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Latents to (F, 3, H, W), as ``backend`` runs the decoder."""
    return backend.run(DecoderNetwork(model), {"latents": latents}, {})["pictures"]


class RecordingBackend:
    """A backend around another, which notes what is run on it.

    Attributes:
        calls: of each call of ``run`` the name of the network and the shape of its first input, in turn.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.capabilities, self.patient = backend.name, backend.capabilities, backend.patient
        self.numbers, self.unbuilt, self.lanes = backend.numbers, backend.unbuilt, backend.lanes
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def shapes(self, network: str) -> list[tuple[int, ...]]:
        """The shapes of the calls of one network."""
        return [shape for name, shape in self.calls if name == network]

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        self.calls.append((network.name, tuple(next(iter(moving.values())).shape)))
        return self._backend.run(network, moving, staying)

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        return self._backend.ready(network, moving, staying)

    def changed(self, part: str, *, moved: bool) -> None:
        """The backend inside is told by itself."""

    def release(self) -> None:
        self._backend.release()

    def wait(self) -> None:
        self._backend.wait()

    def news(self) -> list[str]:
        return self._backend.news()

    def progress(self) -> str:
        return self._backend.progress()

    def close(self) -> None:
        self._backend.close()
