"""What an engine is built for: a network, and the shapes of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipeline.backends.backend import Tensors
from pipeline.conditioning.conditions import Signature, signature_of
from pipeline.device import number_format
from pipeline.models.networks import Network

# A dimension that is left open.
OPEN = -1


@dataclass(frozen=True, slots=True)
class Spec:
    """One engine of one network.

    Attributes:
        network: its name.
        part: the part of the model whose weights it stands on.
        moving, staying: name, dtype and shape of each input; ``OPEN`` dimensions take any size.
    """

    network: str
    part: str
    moving: Signature
    staying: Signature = ()
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        # A stream looks up the same specification at every call.
        object.__setattr__(self, "_hash", hash((self.network, self.part, self.moving, self.staying)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, network: Network, moving: Tensors, staying: Tensors) -> Spec:
        """For calls with inputs of these shapes."""
        return cls(network.name, network.part, signature_of(moving), signature_of(staying))

    @property
    def inputs(self) -> Signature:
        """All inputs in order, the moving ones first."""
        return self.moving + self.staying

    @property
    def rows(self) -> int:
        """How many rows its inputs have."""
        return self.inputs[0][2][0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first input."""
        height, width = self.inputs[0][2][-2:]
        return height, width

    def with_rows(self, rows: int) -> Spec:
        """The same for another number of rows."""
        return replace(
            self,
            moving=tuple((name, dtype, (rows, *shape[1:])) for name, dtype, shape in self.moving),
            staying=tuple((name, dtype, (rows, *shape[1:])) for name, dtype, shape in self.staying),
        )

    def opened(self) -> Spec:
        """The same with any number of rows, any height and any width."""

        def opened(signature: Signature) -> Signature:
            return tuple((name, dtype, (OPEN, shape[1], OPEN, OPEN)) for name, dtype, shape in signature)

        return replace(self, moving=opened(self.moving), staying=opened(self.staying))

    def described(self) -> list[object]:
        """JSON-able, the same for the same specification on every machine."""
        return [
            self.network,
            [[name, number_format(dtype), *shape] for name, dtype, shape in self.inputs],
            len(self.moving),
        ]

    def kind(self) -> list[object]:
        """As ``described`` without sizes: what specifications have in common that differ in these alone."""
        channels = self.inputs[0][2][1]
        return [
            self.network,
            channels,
            [[name, number_format(dtype), len(shape)] for name, dtype, shape in self.inputs],
        ]
