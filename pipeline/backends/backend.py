"""What every backend is to a stream: one way to run any network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from pipeline.lanes import Lanes
from pipeline.models.networks import Network

# Inputs or outputs of a network, by name.
Tensors = Mapping[str, torch.Tensor]


class AccelerationError(Exception):
    """A backend cannot be had here. The message is one sentence: what is missing, and what to do."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. A stream asks for these, never for a backend's name.

    Attributes:
        any_shape: a network runs on inputs of any shape at once. Otherwise it has an engine for each, which is built
            beside the stream, and PyTorch runs the network until it is there.
        shares_weights: networks run on the model's own weights, in their number format; otherwise on a copy in float32.
        reads_in_place: staying inputs that are contiguous float32 on the CPU are read where they lie, so that they may
            be written to between two calls.
        open_sizes: a network of ``open_sizes`` has one engine for all shapes.
        splits_rows: a call of many rows can be answered by engines for fewer, part by part, so that an engine for few
            rows is of lasting use.
        windows: running a network on small windows takes less time than on the whole, so that the sparse engine may
            do so.
    """

    any_shape: bool = False
    shares_weights: bool = False
    reads_in_place: bool = False
    open_sizes: bool = False
    splits_rows: bool = False
    windows: bool = False


class Backend(Protocol):
    """Runs a model's networks. Used by one thread at a time, but for ``changed``, ``news`` and ``progress``.

    A backend that builds engines does so beside the stream: until one is ready, the model's own modules answer.

    Attributes:
        name: which one, for people: ``eager``, ``openvino``.
        capabilities: what it can do.
        numbers: in which number format its engines calculate, for people: ``bfloat16``, ``float32 and int8``.
        unbuilt: runs networks without engines, as this backend does until they are there.
        patient: ``run`` and ``ready`` wait for an engine that is being built, so that all pictures of a file are drawn
            by the same engines. Off for a live picture.
        lanes: where the networks run beside each other; one for all streams, as they share what is captured.
    """

    name: str
    capabilities: Capabilities
    numbers: str
    patient: bool
    lanes: Lanes

    @property
    def unbuilt(self) -> Backend: ...

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """The outputs of ``network`` for these inputs.

        Args:
            network: which one.
            moving: inputs that differ from call to call, (B, ...) each; float of any kind or int64, on any device.
            staying: inputs of which the very same tensor holds the same values as at the call before.
        """
        ...

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        """Whether ``run`` has what it needs to be fast for inputs of these shapes; if not, this orders it."""
        ...

    def changed(self, part: str, *, moved: bool) -> None:
        """See ``pipeline.models.residency.Listener``: nothing built of the part's old weights is used again."""
        ...

    def release(self) -> None:
        """Free the memory of everything that was built; what is asked for again is built again."""
        ...

    def wait(self) -> None:
        """Sleep until nothing is being built. For measurements and tests; a stream never needs it."""
        ...

    def news(self) -> list[str]:
        """What has come up since the last call that the user should know; may be asked on any thread."""
        ...

    def progress(self) -> str:
        """What runs the networks by now and what is still being built, for people: ``graphs, compiling 2 of 3``.

        May be asked on any thread.
        """
        ...

    def close(self) -> None:
        """Stop building and free what was built. The model itself stays as it was."""
        ...


def in_parts(
    parts: Iterable[tuple[int, int, Callable[[Tensors, Tensors], dict[str, torch.Tensor]]]],
    moving: Tensors,
    staying: Tensors,
) -> dict[str, torch.Tensor]:
    """The outputs of a call whose rows are answered part by part.

    Args:
        parts: the first row of each, the row behind its last, and what answers it; together all rows, in order.
        moving, staying: the inputs of the whole call.
    """
    outputs = []
    for first, end, run in parts:
        given = [{name: one[first:end] for name, one in inputs.items()} for inputs in (moving, staying)]
        outputs.append(run(*given))
    return {name: torch.cat([one[name] for one in outputs]) for name in outputs[0]}
