"""The model as PyTorch runs it: channels last, in the number format that the hardware is fastest in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.backends.backend import Capabilities, Tensors
from pipeline.backends.packed import pack
from pipeline.device import number_format
from pipeline.lanes import Lanes
from pipeline.models.networks import Network

if TYPE_CHECKING:
    from pipeline.models.model import Model

# A network of more weights than this is packed for its windows (see ``pack``).
LARGE = 300_000_000


class EagerBackend:
    """Calls the networks' modules, which stand on the model's own weights; nothing is built.

    Sparse windows are not run on a graphics card: most of the time there goes into launching kernels, and a window
    launches as many as the whole picture (``tests/benchmarks/sparse.py``).
    """

    name = "eager"
    patient = False

    def __init__(self, model: Model, notes: Sequence[str] = ()) -> None:
        """``notes`` are the first ``news``."""
        on_cpu = model.device.type == "cpu"
        self.capabilities = Capabilities(
            any_shape=True, shares_weights=True, reads_in_place=on_cpu, open_sizes=True, windows=on_cpu
        )
        self.lanes = Lanes(model.device)
        self.numbers = number_format(model.dtype)
        self._model = model
        self._news = list(notes)
        self._modules: dict[str, _Module] = {}
        model.residency.subscribe(self)

    @property
    def unbuilt(self) -> EagerBackend:
        """See ``Backend``."""
        return self

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        module = self._module(network)
        # Uploaded as they come and converted there: the device does it faster, and the host need not wait for it.
        device = self._model.device
        return module(**{name: tensor.to(device, non_blocking=True) for name, tensor in moving.items()}, **staying)

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        self._module(network)
        return True

    def changed(self, part: str, *, moved: bool) -> None:
        # A module sees new weights by itself, unless it holds them in another layout, or they lie elsewhere now.
        stale = {name for name, one in self._modules.items() if one.part == part and (moved or one.packed)}
        self._modules = {name: one for name, one in self._modules.items() if name not in stale}

    def release(self) -> None:
        self._modules = {}

    def wait(self) -> None:
        pass

    def news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def progress(self) -> str:
        return self.name

    def close(self) -> None:
        self.release()

    def _module(self, network: Network) -> torch.nn.Module:
        known = self._modules.get(network.name)
        if known is None:
            with self._model.residency.lock:
                module = self._made(network)
                packed = network.window and sum(weight.numel() for weight in module.parameters()) > LARGE
                if packed:
                    pack(module)
            known = self._modules[network.name] = _Module(module, network.part, packed)
        return known.module

    def _made(self, network: Network) -> torch.nn.Module:
        return network.module().eval()


@dataclass(frozen=True, slots=True)
class _Module:
    """A network's module, and whether it has weights of its own, in another layout."""

    module: torch.nn.Module
    part: str
    packed: bool
