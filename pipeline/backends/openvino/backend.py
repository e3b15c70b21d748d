"""OpenVINO: on a CPU two to three times as fast as PyTorch; also for Intel's GPUs and NPUs.

Which engines there are:

- Encoder and decoder each have one engine for any size and number of pictures.
- The UNet has one engine for each number of rows and latent size, as one with open dimensions would be slower.
- The decoder, too, has engines for single sizes where the model states the bounds between which it may calculate in
  eight bits (see ``quantised.py``): with open dimensions, OpenVINO 2026.4 computes an eight-bit convolution behind an
  upsampling wrongly (33 dB to what it should be).

In which number format they calculate, and which networks in eight bits, says ``formats.py``.

Prompts, guidance, strength, solver and seed are inputs, and need no other engine. For another size an engine is built
beside the stream. Until it is there, engines for fewer rows take turns with the rows, or else the model itself answers.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import nn

from pipeline.backends.backend import AccelerationError, Capabilities, Tensors, in_parts
from pipeline.backends.builder import Builder
from pipeline.backends.engine_backend import Engine, EngineBackend
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.folded_decoder import fold_tail
from pipeline.backends.openvino.compiler import Compiler, GaveWayError, StoppedError
from pipeline.backends.openvino.early import EarlyEngines
from pipeline.backends.openvino.engine import Engine as CompiledGraph
from pipeline.backends.openvino.formats import Trials, format_for
from pipeline.backends.openvino.graph import WrittenGraphs, write_graph
from pipeline.backends.openvino.package import import_openvino, is_installed
from pipeline.backends.quantised import quantise
from pipeline.backends.spec import OPEN, Spec
from pipeline.backends.weights_digest import WeightsDigests, weights_digest
from pipeline.device import number_format
from pipeline.file_cache import key_of
from pipeline.models.bounds import Bounds
from pipeline.models.networks import Network
from pipeline.models.residency import AUTOENCODER, DENOISER
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from pipeline.models.model import Model

logger = logging.getLogger(__name__)

_PRECISION = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
# Change this with anything that changes a graph, so that no engine of before is found again.
_GRAPHS = 6

# How many engines for windows are kept. Of the UNet, as many as have room for their weights in these bytes, within the
# two bounds: one takes some 100 MB, however small its weights; a hand that moves in front of a camera asks for a dozen
# shapes of window, and with eight kept few are built twice. Of the autoencoder, where each takes some megabytes, more.
_WINDOWS_BYTES, _LEAST_WINDOWS, _MOST_WINDOWS = 2**30, 3, 10
_MOST_OF_AUTOENCODER = 24
# While an engine is built, its weights are in memory in float32 this many times: in the copy that is traced, in the
# graph, and in what the compiler makes of it.
_COPIES = 3

# Where in a network's module the convolutions lie whose bounds a model states, by the name it states them under.
_BOUNDED = {"encoder": "autoencoder.encoder", "decoder": "autoencoder.decoder", "unet": "denoiser"}


class OpenVinoBackend(EngineBackend):
    """Runs a model through OpenVINO.

    Args:
        model: the engines calculate in its number format where that was asked for, else in the fastest.
        device: ``CPU``, ``GPU`` or ``NPU``, as OpenVINO calls them.
        cache: where built engines are kept.
        trials: what was measured of this processor, which is measured once the denoiser is built if it was not before.
            Without, the format is that which the processor's abilities suggest.

    Raises:
        AccelerationError: the package or the device is not there.
    """

    def __init__(
        self, model: Model, device: str = "CPU", cache: EngineCache | None = None, trials: Trials | None = None
    ) -> None:
        if not is_installed():
            raise AccelerationError("OpenVINO is not installed: pip install 'vitrail[openvino]'")
        openvino = import_openvino()
        self._core = openvino.Core()
        found = {name.partition(".")[0] for name in self._core.available_devices}
        if device not in found:
            raise AccelerationError(f"OpenVINO finds no {device} here; it has {', '.join(sorted(found))}")
        name = "openvino" if device == "CPU" else f"openvino-{device.lower()}"
        self._device = device
        times = trials.times() if trials is not None and device == "CPU" else None
        self._untried = trials if device == "CPU" and times is None else None
        chosen = format_for(device, model.dtype if model.dtype_asked else None, times)
        self._config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _PRECISION[chosen.floating]}
        if device == "CPU":
            # A thread that is bound to a core waits for it while another program has it, and all threads wait with it.
            self._config["ENABLE_CPU_PINNING"] = "NO"
        self._cache = cache or EngineCache()
        self._compiler = Compiler()
        self._written = WrittenGraphs(self._cache)
        self._digests = WeightsDigests()
        self._whole: tuple[int, int] = (0, 0)  # latent size of the stream's pictures
        self._bounds = {part: bounds for part, bounds in model.bounds.items() if part in chosen.eight_bits}
        self._pictures: Builder[Engine] = Builder(self._build, name)
        # The sparse engine has one network for each shape of window.
        most = min(_MOST_WINDOWS, max(_LEAST_WINDOWS, _WINDOWS_BYTES // (2 * model.unet_weights)))
        self._windows: Builder[Engine] = Builder(self._build, name, most)
        self._of_autoencoder: Builder[Engine] = Builder(self._build, name, _MOST_OF_AUTOENCODER)
        on_cpu = device == "CPU"
        own = Capabilities(reads_in_place=on_cpu, open_sizes=True, splits_rows=True, windows=on_cpu)
        super().__init__(model, name, own)
        self.numbers = number_format(chosen.floating) + (" and int8" if self._bounds else "")
        stored = () if model.record is None or model.modules.made else model.record.engines
        self._early = EarlyEngines(self._stored, stored)

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        """See ``Backend``."""
        if network.part == DENOISER and not network.window:
            height, width = next(iter(moving.values())).shape[2:]
            self._whole = height, width
        return super().run(network, moving, staying)

    def close(self) -> None:
        """See ``Backend``."""
        super().close()
        self._early.drop()
        self._compiler.stop()
        self._written.clear()

    def _builders(self) -> Iterable[Builder[Engine]]:
        return self._pictures, self._windows, self._of_autoencoder

    def _builder_of(self, spec: Spec) -> Builder[Engine]:
        if spec.part == AUTOENCODER:
            return self._pictures if spec.rows == OPEN else self._of_autoencoder
        return self._windows if self._networks[spec.network].window else self._pictures

    def _forget(self, part: str, *, moved: bool) -> None:
        self._written.clear()
        for builder in self._builders():
            builder.clear(part)

    def _choices(self, network: Network, spec: Spec) -> Sequence[Spec]:
        if not network.open_sizes:
            return (spec,)
        # Only whole pictures are decoded in eight bits: parts of pictures come in too many sizes for an engine each,
        # and go the exact way. Those of sizes that come often are networks of their own (``window``).
        if network.name == "decoder" and "decoder" in self._bounds and spec.size == self._whole:
            return spec, spec.opened()
        return (spec.opened(),)

    def _without_engine(
        self, network: Network, spec: Spec, moving: Tensors, staying: Tensors
    ) -> dict[str, torch.Tensor]:
        if network.open_sizes or network.window:
            return super()._without_engine(network, spec, moving, staying)
        ready = self._pictures.ready()
        engines = {one.rows: engine for one, engine in ready.items() if one.with_rows(spec.rows) == spec}
        parts = []
        for first, end, engine in _cover(spec.rows, engines):
            part = spec.with_rows(end - first)
            self._pictures.get(part)  # in use, and so not to be given up
            parts.append((first, end, partial(self._answered, part, engine, network)))
        return in_parts(parts, moving, staying) if parts else super()._without_engine(network, spec, moving, staying)

    def _found(self, network: Network, spec: Spec) -> tuple[Spec, Engine] | None:
        if self._model.modules.made:
            self._early.drop()
        elif not self.patient:
            self._wait_for_stored(network, spec)
        return super()._found(network, spec)

    def _wait_for_stored(self, network: Network, spec: Spec) -> None:
        """Have an engine that is in the cache, which is there sooner than the modules that would do instead."""
        self._networks[network.name] = network
        for choice in self._choices(network, spec):
            digest = None if self._model.record is None else self._model.record.digests.get(choice.part)
            if digest is None:
                continue
            if self._cache.path(self._key(choice, self._bounds_of(choice), digest)).is_file():
                self._builder_of(choice).get(choice, patient=True)
                return

    # -- on the builders' threads -------------------------------------------------------------------------------------

    def _build(self, spec: Spec) -> Engine:
        engine = self._built(spec)
        if self._untried is not None and spec.part == DENOISER:
            # Once for a processor: PyTorch draws for a second longer.
            untried, self._untried = self._untried, None
            untried.run()
        return engine

    def _built(self, spec: Spec) -> Engine:
        # Asked for only once here: another builder's thread may find out meanwhile that the bounds cannot be used.
        bounds = self._bounds_of(spec)
        key = self._key(spec, bounds, self._digest(spec))
        engine = self._early.take(key) or self._stored(key)
        if engine is not None:
            self._note_use(spec, key)
            return engine
        try:
            blob, digest = self._compiled(spec, bounds)
        except RuntimeError as error:
            if isinstance(error, StoppedError) or not bounds:
                raise
            logger.warning(
                "%s cannot run the %s in eight bits, and runs it exactly: %s", self.name, spec.network, error
            )
            self._bounds.pop(_bounded(spec), None)
            return self._built(spec)
        engine, key = self._imported(blob), self._key(spec, bounds, digest)
        self._cache.store(key, blob)
        self._note_use(spec, key)
        return engine

    def _stored(self, key: str) -> Engine | None:
        """The engine in the cache; None where there is none for this OpenVINO."""
        stored = self._cache.load(key)
        try:
            return None if stored is None else self._imported(stored)
        except RuntimeError:
            logger.warning("a stored engine is not for this OpenVINO; it is built again")
            return None

    def _note_use(self, spec: Spec, key: str) -> None:
        """Have the next process begin with this engine, if it is one of whole pictures."""
        if self._model.record is not None and not self._networks[spec.network].window:
            self._model.record.add_engine(key)

    def _key(self, spec: Spec, bounds: Bounds, digest: str) -> str:
        return key_of(
            **_ground(bounds, digest),
            spec=spec.described(),
            config=self._config,
            device=self._core.get_property(self._device, "FULL_DEVICE_NAME"),
            abilities=sorted(self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES")),
        )

    def _bounds_of(self, spec: Spec) -> Bounds:
        """Between which values the network of ``spec`` is to calculate in eight bits; empty where in floating point."""
        bounds = self._bounds.get(_bounded(spec), {})
        open_decoder = _bounded(spec) == "decoder" and spec.rows == OPEN
        # LoRAs move the values beyond the bounds that were measured.
        moved = spec.part == DENOISER and self._model.adapters.in_denoiser
        return {} if open_decoder or moved else bounds

    def _digest(self, spec: Spec) -> str:
        """Of the weights that the network stands on now.

        It is taken without the lock, which a live stream may want meanwhile: a digest of weights that were written to
        on the way is that of no engine.
        """

        def computed() -> str:
            with self._model.residency.lock:
                part = self._networks[spec.network].module().get_submodule(spec.part)
            return self._digests.of(part)

        return self._model.digest(spec.part, computed)

    def _imported(self, blob: bytes) -> Engine:
        return CompiledGraph(self._core.import_model(io.BytesIO(blob), self._device, self._config))

    def _compiled(self, spec: Spec, bounds: Bounds) -> tuple[bytes, str]:
        """The engine, and the digest of the very weights that are in it."""
        # The engines of whole pictures are needed now; those of windows only make the stream faster.
        background = self._networks[spec.network].window and spec.size != self._whole
        while True:
            with self._compiler.turn(background), temporary_folder() as folder:
                try:
                    return self._compiled_in(folder, spec, bounds)
                except GaveWayError:
                    continue

    def _compiled_in(self, folder: Path, spec: Spec, bounds: Bounds) -> tuple[bytes, str]:
        # A graph with open dimensions needs no other shapes.
        graph, for_other_sizes = folder / "graph.xml", spec.rows != OPEN
        compiled = partial(self._compiler.compile, out=folder / "blob", device=self._device, config=self._config)
        digest = self._digest(spec)
        written = self._written.find(_graph_key(spec, bounds, digest)) if for_other_sizes else None
        if written is not None:
            try:
                return compiled(written, shapes=[shape for _, _, shape in spec.inputs]), digest
            except (StoppedError, GaveWayError):
                raise
            except RuntimeError as error:
                logger.debug("the graph of another size does not do for %s: %s", spec, error)
        module, digest = self._copied(spec)
        if path := _BOUNDED.get(_bounded(spec)):
            quantise(module.get_submodule(path), bounds)
        write_graph(module, spec, graph)
        del module
        if for_other_sizes:
            self._written.keep(_graph_key(spec, bounds, digest), graph)
        return compiled(graph), digest

    def _copied(self, spec: Spec) -> tuple[nn.Module, str]:
        """The network on a copy of the weights in float32, and the digest of the weights that were copied."""
        network = self._networks[spec.network]
        with self._model.residency.lock:
            shared = network.module()
            needed = 4 * _COPIES * sum(parameter.numel() for parameter in shared.parameters())
            free = psutil.virtual_memory().available
            if needed > free:
                raise RuntimeError(f"its build takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")
            module = copy.deepcopy(shared)
        digest = weights_digest(module.get_submodule(spec.part))
        module = module.float().eval()
        for one in list(module.modules()):
            fold_tail(one)
        return module, digest


def _ground(bounds: Bounds, digest: str) -> dict[str, object]:
    """What a graph is made from beside its specification, JSON-able."""
    return {
        "graphs": _GRAPHS,
        "weights": digest,
        "bounds": dict(bounds),
        "versions": [version(name) for name in ("openvino", "torch", "diffusers")],
    }


def _graph_key(spec: Spec, bounds: Bounds, digest: str) -> str:
    """Of a graph that is compiled for many sizes."""
    return key_of(**_ground(bounds, digest), kind=spec.kind())


def _bounded(spec: Spec) -> str:
    """By what name the model states the bounds of what the network is of."""
    return "unet" if spec.part == DENOISER else spec.network.partition("/")[0]


def _cover(rows: int, engines: dict[int, Engine]) -> list[tuple[int, int, Engine]]:
    """Which engine takes which rows, the largest that fits first; empty where they cannot all be taken."""
    parts, first = [], 0
    while first < rows:
        size = max((size for size in engines if size <= rows - first), default=0)
        if not size:
            return []
        parts.append((first, first + size, engines[size]))
        first += size
    return parts
