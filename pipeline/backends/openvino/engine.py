"""One graph that OpenVINO has compiled: torch tensors in, torch tensors out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.backends.backend import Tensors
from pipeline.backends.openvino.package import import_openvino
from pipeline.conditioning.conditions import Conditions

if TYPE_CHECKING:
    from openvino import CompiledModel

# Inputs of more bytes than this are read where they lie, if they can be. Smaller ones are copied to memory that the
# request always reads from, as that takes less time than binding it to other memory.
_SMALL = 1 << 18


def _kind(tensor: torch.Tensor) -> torch.dtype:
    """What the graph takes `tensor` as."""
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


class Engine:
    """Calls a compiled graph.

    Inputs that stay the same are bound once, and so is the memory that small inputs, and parts of larger ones, are
    copied to. A call of a small network takes a few milliseconds, and binding all inputs anew would take one of them.
    """

    def __init__(self, compiled: CompiledModel) -> None:
        self._tensor = import_openvino().Tensor
        self._request = compiled.create_infer_request()
        self._staying: dict[int, torch.Tensor] = {}
        self._moving: dict[int, torch.Tensor] = {}  # memory that inputs are copied to
        self._arrays: dict[int, np.ndarray] = {}  # what the request reads from, kept alive
        self._seen: Conditions | None = None
        self._outputs = [output_name(port.get_names()) for port in compiled.outputs]
        # Two streams may share a model; a request serves one at a time.
        self._lock = threading.Lock()

    def __call__(self, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """Every output by its name, float32.

        Args:
            moving: the first inputs in order, float of any kind or int64.
            staying: the others in order. The very same tensor as at the call before is taken to hold the same values,
                but for contiguous float32 on the CPU: such a tensor is read where it lies, and may be written to
                between calls.
        """
        with self._lock:
            for number, tensor in enumerate(moving.values()):
                self._staying.pop(number, None)
                self._move(number, tensor)
            if staying is not self._seen:
                for number, tensor in enumerate(staying.values(), len(moving)):
                    if self._staying.get(number) is not tensor:
                        self._moving.pop(number, None)
                        self._bind(number, tensor)
                        self._staying[number] = tensor
                # Only ``Conditions`` never change; any other mapping is looked at each time.
                self._seen = staying if isinstance(staying, Conditions) else None
            found = self._request.infer(share_outputs=True).to_tuple()
            # The next call writes over them.
            return {name: torch.from_numpy(one.copy()) for name, one in zip(self._outputs, found, strict=True)}

    def _move(self, number: int, tensor: torch.Tensor) -> None:
        if tensor.nbytes > _SMALL and tensor.is_contiguous():
            self._moving.pop(number, None)
            self._bind(number, tensor)
            return
        place = self._moving.get(number)
        if place is None or place.shape != tensor.shape:
            with torch.inference_mode(False):  # it may be written to in this mode and out of it
                place = self._moving[number] = torch.empty(tensor.shape, dtype=_kind(tensor))
            self._bind(number, place)
        place.copy_(tensor)

    def _bind(self, number: int, tensor: torch.Tensor) -> None:
        array = self._arrays[number] = tensor.detach().to("cpu", _kind(tensor)).contiguous().numpy()
        self._request.set_input_tensor(number, self._tensor(array, shared_memory=True))


_PREFIX = "vitrail:"


def tensor_name(name: str) -> str:
    """What an output ``name`` is called in a graph, where other names may be given to it besides."""
    return _PREFIX + name


def output_name(names: Iterable[str]) -> str:
    """The output's own name among those that a compiled graph has for it."""
    return next(name for name in sorted(names) if name.startswith(_PREFIX)).removeprefix(_PREFIX)
