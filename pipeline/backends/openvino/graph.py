"""From torch modules to OpenVINO graphs, by tracing; nothing is fetched and nothing is reported to anyone.

OpenVINO's own ``convert_model`` is not used: it patches functions of torch while it traces, which a stream that is
running beside would notice.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.jit import _recursive
from torch.jit._trace import TracerWarning

from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino.engine import tensor_name
from pipeline.backends.openvino.package import import_converter, import_openvino
from pipeline.backends.spec import OPEN, Spec
from pipeline.temporary import new_temporary_folder

if TYPE_CHECKING:
    from openvino import Model

# What torch keeps of traces is the whole process's, and is emptied after each: two at a time would break each other.
_TRACING = threading.Lock()
# A graph of more weights than this is not kept: the embedded UNet's take 15 MB.
KEPT_BYTES = 2**26
_LENGTH_BYTES = 8


class WrittenGraphs:
    """Graphs that were written, to be compiled for other sizes: tracing takes a second, and holds up the stream.

    Args:
        cache: where they are found again by the next process.
    """

    def __init__(self, cache: EngineCache) -> None:
        self._cache = cache
        self._paths: dict[str, Path] = {}
        self._folder: Path | None = None
        self._count = itertools.count()  # no path is used twice, as the compiler keeps graphs by their path

    def clear(self) -> None:
        """Delete the graphs that were written for this process; those in the cache stay."""
        self._paths = {}
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, key: str) -> Path | None:
        """The graph (.xml) that was kept under ``key``, its weights beside it; None where there is none."""
        if key not in self._paths:
            stored = self._cache.load(key)
            if stored is not None:
                length = int.from_bytes(stored[:_LENGTH_BYTES], "little")
                graph, weights = stored[_LENGTH_BYTES : _LENGTH_BYTES + length], stored[_LENGTH_BYTES + length :]
                self._put(key, graph, weights)
        return self._paths.get(key)

    def keep(self, key: str, path: Path) -> None:
        """Keep the graph at ``path``; but not a large one."""
        graph, weights = path.read_bytes(), path.with_suffix(".bin")
        if weights.stat().st_size <= KEPT_BYTES:
            self._put(key, graph, weights.read_bytes())
            self._cache.store(key, len(graph).to_bytes(_LENGTH_BYTES, "little") + graph + weights.read_bytes())

    def _put(self, key: str, graph: bytes, weights: bytes) -> None:
        if self._folder is None:
            self._folder = new_temporary_folder()
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{next(self._count)}.xml"
        path.with_suffix(".bin").write_bytes(weights)
        path.write_bytes(graph)
        self._paths[key] = path


def write_graph(module: torch.nn.Module, spec: Spec, path: Path) -> None:
    """Trace ``module`` and write it as ``path`` (.xml) with its weights beside it (.bin).

    Args:
        module: named tensors in, named tensors out.
        spec: names, types and shapes of its inputs; ``OPEN`` leaves a dimension open.

    Raises:
        RuntimeError: the module has something in it that OpenVINO cannot express.
    """
    openvino = import_openvino()
    manager, decode = import_converter()
    inputs = [(name, shape, torch.float32 if dtype.is_floating_point else dtype) for name, dtype, shape in spec.inputs]
    examples = [torch.zeros([_example(side, place) for place, side in enumerate(s)], dtype=t) for _, s, t in inputs]
    positional = _Positional(module.eval(), [name for name, _, _ in inputs])
    # Three warnings of the tracer are hidden, as nothing follows from them here. It looks at all that a module of
    # transformers has, also at what is to go. Shapes are meant to become constants;
    # and torch.export, recommended instead, takes ten times as long and cannot leave these dimensions open. The
    # filters are never taken back: the list is the whole process's, and another thread may have changed it meanwhile.
    warnings.filterwarnings("ignore", category=TracerWarning)
    warnings.filterwarnings("ignore", ".*torch.jit.*deprecated.*")
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*deprecated.*", FutureWarning)
    with _TRACING, torch.no_grad():
        traced = torch.jit.trace(positional, tuple(examples), check_trace=False)
        # The decoder owns the memory of the graph's constants: it must live until the graph is written.
        decoder = decode(traced)
        frontend = manager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
        _fix_ranges(graph)
        graph.reshape({index: openvino.PartialShape(list(shape)) for index, (_, shape, _) in enumerate(inputs)})
        for name, output in zip(positional.outputs, graph.outputs, strict=True):
            output.get_tensor().add_names({tensor_name(name)})
        openvino.save_model(graph, path, compress_to_fp16=False)
        del graph, decoder, traced
        _forget_traces()


class _Positional(torch.nn.Module):
    """Calls a module that takes and gives named tensors with tensors in order.

    Attributes:
        outputs: the names of what it gave at the last call.
    """

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self._module = module
        self._names = tuple(names)
        self.outputs: tuple[str, ...] = ()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self._module(**dict(zip(self._names, tensors, strict=True)))
        self.outputs = tuple(found)
        return tuple(found.values())


def _example(side: int, place: int) -> int:
    """A size for an open dimension: one row, 64 pixels."""
    return side if side != OPEN else 64 if place else 1


def _fix_ranges(graph: Model) -> None:
    """Replace the small sums that give the ranges of quantisation by numbers: OpenVINO understands only these."""
    openvino = import_openvino()
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    if not nodes:
        return
    ranges = [node.input_value(index) for node in nodes for index in range(1, 5)]
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(openvino.Model(ranges, [], "ranges"), "CPU", exact)([])
    for number, node in enumerate(nodes):
        for index in range(4):
            value = found[4 * number + index].reshape(1, 1, 1, 1)
            node.input(index + 1).replace_source_output(openvino.op.Constant(value).output(0))


def _forget_traces() -> None:
    """Have torch let go of what it has traced, while nothing is being traced.

    It keeps every module's types and constants (15 MB for the embedded UNet) for as long as the process lives, and has
    no public call for this.
    """
    torch._C._jit_clear_class_registry()
    _recursive.concrete_type_store = _recursive.ConcreteTypeStore()
