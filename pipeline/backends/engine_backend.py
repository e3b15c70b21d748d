"""What all backends have in common that build an engine for each shape of each network."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from pipeline.backends.backend import Capabilities, Tensors
from pipeline.backends.builder import Builder
from pipeline.backends.eager import EagerBackend
from pipeline.backends.spec import Spec
from pipeline.conditioning.conditions import Signature, signature_of
from pipeline.device import number_format
from pipeline.models.networks import Network
from pipeline.out_of_memory import ran_out_of_memory

if TYPE_CHECKING:
    from pipeline.models.model import Model

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """A network that was built for the shapes of its inputs."""

    def __call__(self, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """As ``Backend.run``."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A network's last call: shapes and types of what moved, the signature of what stayed, and the specification."""

    given: list[tuple[torch.Size, torch.dtype]]
    others: Signature
    spec: Spec


class EngineBackend(ABC):
    """Builds engines beside the stream; until one is there, and where none can be, PyTorch runs the network.

    An engine that fails while it runs hands over to PyTorch, and its failure is told.

    Args:
        model: whose networks are run.
        name: of the backend, for people.
        capabilities: what it can do.
        notes: the first ``news``.
    """

    def __init__(self, model: Model, name: str, capabilities: Capabilities, notes: Sequence[str] = ()) -> None:
        self.name = name
        self.capabilities = capabilities
        self.numbers = number_format(model.dtype)
        self.patient = False
        self._model = model
        self._eager = EagerBackend(model, notes)
        self.lanes = self._eager.lanes
        self._networks: dict[str, Network] = {}  # by name, for the builders' threads
        self._last: dict[str, _Asked] = {}  # of each network
        model.residency.subscribe(self)

    @abstractmethod
    def _builders(self) -> Iterable[Builder[Engine]]:
        """All builders."""

    @abstractmethod
    def _builder_of(self, spec: Spec) -> Builder[Engine]:
        """Who builds an engine for ``spec``."""

    @abstractmethod
    def _forget(self, part: str, *, moved: bool) -> None:
        """Drop what was built of the weights of ``part``, as far as it would not see new ones by itself."""

    def _choices(self, network: Network, spec: Spec) -> Sequence[Spec]:
        """Specifications of engines that can answer a call of ``spec``, the best first."""
        return (spec,)

    @property
    def unbuilt(self) -> EagerBackend:
        """See ``Backend``."""
        return self._eager

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """See ``Backend``."""
        spec = self._spec(network, moving, staying)
        found = self._found(network, spec)
        if found is None:
            return self._without_engine(network, spec, moving, staying)
        return self._answered(*found, network, moving, staying)

    def _answered(
        self, spec: Spec, engine: Engine, network: Network, moving: Tensors, staying: Tensors
    ) -> dict[str, torch.Tensor]:
        """What the engine for ``spec`` answers; where it fails, what PyTorch does."""
        try:
            return engine(moving, staying)
        except Exception as error:
            if ran_out_of_memory(error):
                raise
            answer = self._eager.run(network, moving, staying)  # first: bad inputs raise here too
            self._failed(spec, engine, error)
            return answer

    def _failed(self, spec: Spec, engine: Engine, error: Exception) -> None:
        """``engine`` cannot be run: it is given up, and its failure is told."""
        self._builder_of(spec).failed(spec, error)

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        """See ``Backend``."""
        return self._found(network, self._spec(network, moving, staying)) is not None

    def _without_engine(
        self, network: Network, spec: Spec, moving: Tensors, staying: Tensors
    ) -> dict[str, torch.Tensor]:
        """The answer to a call of ``spec``, for which there is no engine."""
        return self._eager.run(network, moving, staying)

    def _found(self, network: Network, spec: Spec) -> tuple[Spec, Engine] | None:
        self._networks[network.name] = network
        for choice in self._choices(network, spec):
            engine = self._builder_of(choice).get(choice, patient=self.patient)
            if engine is not None:
                return choice, engine
        return None

    def _spec(self, network: Network, moving: Tensors, staying: Tensors) -> Spec:
        """The specification of a call; the very same object for calls that are alike, as those of a stream are."""
        given = [(tensor.shape, tensor.dtype) for tensor in moving.values()]
        others = signature_of(staying)
        last = self._last.get(network.name)
        if last is not None and last.given == given and last.others == others:
            return last.spec
        spec = Spec.of(network, moving, staying)
        self._last[network.name] = _Asked(given, others, spec)
        return spec

    def progress(self) -> str:
        """See ``Backend``."""
        asked = [(name, asked.spec) for name, asked in list(self._last.items()) if not self._networks[name].window]
        missing = sum(self._is_missing(self._networks[name], spec) for name, spec in asked)
        if not missing:
            return self.name
        return f"{self._eager.name}, {self.name} is built ({len(asked) - missing + 1} of {len(asked)})"

    def _is_missing(self, network: Network, spec: Spec) -> bool:
        return not any(self._builder_of(choice).has(choice) for choice in self._choices(network, spec))

    def changed(self, part: str, *, moved: bool) -> None:
        """See ``Backend``."""
        self._eager.changed(part, moved=moved)
        self._forget(part, moved=moved)

    def release(self) -> None:
        """See ``Backend``."""
        self._eager.release()
        for builder in self._builders():
            builder.clear()

    def wait(self) -> None:
        """See ``Backend``."""
        for builder in self._builders():
            builder.wait()

    def news(self) -> list[str]:
        """See ``Backend``."""
        return [*self._eager.news(), *(news for builder in self._builders() for news in builder.news())]

    def close(self) -> None:
        """See ``Backend``."""
        for builder in self._builders():
            builder.close()
        self._eager.close()
