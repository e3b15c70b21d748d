"""From torch modules to OpenVINO graphs, by tracing; nothing is fetched and nothing is reported to anyone.

OpenVINO's own ``convert_model`` is not used: it patches functions of torch while it traces, which a stream that is
running beside would notice.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.jit import _recursive
from torch.jit._trace import TracerWarning

from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.folding import fold_tail
from pipeline.backends.openvino.package import import_converter, import_openvino
from pipeline.conditioning.attention_cache import AttentionCache, uncached_copy
from pipeline.models.autoencoder import Autoencoder

# A dimension that is left open.
OPEN = -1
# A graph of more weights than this is not kept: the embedded UNet's take 15 MB.
KEPT_BYTES = 2**26
_LENGTH_BYTES = 8


class Encoder(torch.nn.Module):
    """``Autoencoder.encode`` of a copy, as a module."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.module = copy.deepcopy(autoencoder.module).float()
        self.autoencoder = Autoencoder(self.module)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode(pictures)


class Decoder(torch.nn.Module):
    """``Autoencoder.decode`` of a copy, as a module; its end is folded where it can be."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.module = copy.deepcopy(autoencoder.module).float()
        fold_tail(self.module)
        self.autoencoder = Autoencoder(self.module)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(latents)


class CachedUNet(torch.nn.Module):
    """A copy of a UNet whose cross-attention keys and values are inputs."""

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        self.unet = uncached_copy(unet).float()
        self._cache = AttentionCache(self.unet)
        self._cache.inject()

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor, *keys_values: torch.Tensor
    ) -> torch.Tensor:
        self._cache.use(keys_values)
        return self.unet(rows, timesteps, embeddings, return_dict=False)[0]


class WrittenGraphs:
    """Graphs that were written, to be compiled for other sizes: tracing takes a second, and holds up the stream.

    Args:
        cache: where they are found again by the next process.
    """

    def __init__(self, cache: EngineCache) -> None:
        self._cache = cache
        self._paths: dict[str, Path] = {}
        self._folder: Path | None = None
        self._count = itertools.count()  # no name is used twice: the compiler knows graphs by theirs

    def clear(self) -> None:
        """Forget all that are not in the cache."""
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
            self._folder = Path(tempfile.mkdtemp(prefix="vitrail-graphs-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{next(self._count)}.xml"
        path.with_suffix(".bin").write_bytes(weights)
        path.write_bytes(graph)
        self._paths[key] = path


def write_graph(
    module: torch.nn.Module, examples: Sequence[torch.Tensor], shapes: Sequence[list[int]], path: Path
) -> None:
    """Trace ``module`` on ``examples`` and write it as ``path`` (.xml) with its weights beside it (.bin).

    Args:
        shapes: of each input; ``OPEN`` leaves a dimension open.

    Raises:
        RuntimeError: the module has something in it that OpenVINO cannot express.
    """
    openvino = import_openvino()
    manager, decode = import_converter()
    with warnings.catch_warnings(), torch.no_grad():
        # Shapes that become constants are meant to: every graph is for the shapes it is traced with.
        warnings.simplefilter("ignore", TracerWarning)
        # torch.export takes ten times as long and cannot leave these dimensions open.
        warnings.filterwarnings("ignore", ".*torch.jit.*deprecated.*")
        traced = torch.jit.trace(module.eval(), tuple(examples), check_trace=False)
        # The decoder owns the memory of the graph's constants: it must live until the graph is written.
        decoder: Any = decode(traced)
        frontend = manager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
    _fix_ranges(graph)
    graph.reshape({index: openvino.PartialShape(shape) for index, shape in enumerate(shapes)})
    openvino.save_model(graph, path, compress_to_fp16=False)
    del graph, decoder, traced
    _forget_traces()


def _fix_ranges(graph: Any) -> None:
    """Put numbers in place of the small sums that give the ranges of quantisation: else they are not understood."""
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
    """Have torch let go of what it has traced: it keeps every module's types and constants (15 MB for the embedded
    UNet) for as long as the process lives, and has no public call for this."""
    torch._C._jit_clear_class_registry()
    _recursive.concrete_type_store = _recursive.ConcreteTypeStore()
