"""OpenVINO: on a CPU two to three times as fast as PyTorch; also for Intel's GPUs and NPUs.

The autoencoder's two graphs take any size and number of pictures. A UNet with open dimensions is half as fast again,
so it has one engine for each number of rows and latent size. So has the decoder of whole pictures where the model says
between which bounds it may calculate in eight bits (see ``quantised.py``): with open ones OpenVINO 2026.4 then gets its
convolutions behind an upsampling wrong (33 dB to what they should be). Encoder and UNet calculate so where they would
do it in float32. Prompts, guidance, strength, solver and seed are inputs of all of them; for other sizes an engine is
built beside the stream, and until it is there, smaller ones take turns with the rows, or else the model itself answers.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.backends.backend import AccelerationError
from pipeline.backends.builder import Builder, Spec
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache, key_of, weights_digest
from pipeline.backends.openvino.compiler import Compiler, GaveWayError, StoppedError
from pipeline.backends.openvino.engine import Engine
from pipeline.backends.openvino.graph import OPEN, CachedUNet, Decoder, Encoder, WrittenGraphs, write_graph
from pipeline.backends.openvino.package import import_openvino, is_installed
from pipeline.backends.quantised import Bounds, quantise
from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.diffusion.guidance import RowLayout

if TYPE_CHECKING:
    from pipeline.models.model import Model

logger = logging.getLogger(__name__)

_PRECISION = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
# Change this with anything that changes a graph, so that no engine of before is found again.
_GRAPHS = 4

# Networks made of the UNet that are kept besides: as many as have room for their weights here, within these bounds.
# However small its weights, one takes some 100 MB; a hand that moves about asks for a dozen, and with eight few are
# built twice. And of the autoencoder, some megabytes each.
_NETWORKS_BYTES, _LEAST_NETWORKS, _MOST_NETWORKS = 2**30, 3, 10
_MOST_OF_AUTOENCODER = 24

ENCODER, DECODER = ("encoder",), ("decoder",)


class OpenVinoBackend:
    """Runs a model through OpenVINO.

    Args:
        model: in the number format that the engines are to calculate in.
        device: ``CPU``, ``GPU`` or ``NPU``, as OpenVINO calls them.
        cache: where built engines are kept.

    Raises:
        AccelerationError: the package or the device is not there.
    """

    shares_weights = False

    def __init__(self, model: Model, device: str = "CPU", cache: EngineCache | None = None) -> None:
        if not is_installed():
            raise AccelerationError("OpenVINO is not installed: pip install 'vitrail[openvino]'")
        openvino = import_openvino()
        self.name = "openvino" if device == "CPU" else f"openvino-{device.lower()}"
        self._core = openvino.Core()
        found = {name.partition(".")[0] for name in self._core.available_devices}
        if device not in found:
            raise AccelerationError(f"OpenVINO finds no {device} here; it has {', '.join(sorted(found))}")
        self._model = model
        self._device = device
        self._config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _PRECISION[model.dtype]}
        self._cache = cache or EngineCache()
        self._eager = EagerBackend(model)
        self._builder: Builder[Engine] = Builder(self._build, self.name)
        self._compiler = Compiler()
        self._written = WrittenGraphs(self._cache)  # of networks of windows
        self._round = 0  # of the model's weights
        self._digests: dict[str, str] = {}
        self._whole: tuple[int, ...] = ()  # latent size of the stream's pictures
        self._bounds = dict(model.bounds) if device == "CPU" else {}
        # The sparse engine has one network for each shape of window.
        weights = 2 * sum(parameter.numel() for parameter in model.unet.parameters())
        most = min(_MOST_NETWORKS, max(_LEAST_NETWORKS, _NETWORKS_BYTES // weights))
        self._networks: Builder[Engine] = Builder(self._build, self.name, most)
        self._small_networks: Builder[Engine] = Builder(self._build, self.name, _MOST_OF_AUTOENCODER)
        self._builders = (self._builder, self._networks, self._small_networks)
        self._makers: dict[str, Callable[[], torch.nn.Module]] = {}

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        engine = self._builder.get(ENCODER)
        return self._eager.encode(pictures) if engine is None else engine([pictures])[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        # Parts of pictures come in many sizes: they go the exact way, but for those that come often (``network``).
        if "decoder" in self._bounds and tuple(latents.shape[2:]) == self._whole:
            found = self.network("decoder", partial(Decoder, self._model.autoencoder), [latents], [])
            if found is not None:
                return found[0]
        engine = self._builder.get(DECODER)
        return self._eager.decode(latents) if engine is None else engine([latents])[0]

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        if added is not None:  # SDXL's further inputs are not in the graphs
            return self._eager.denoise(rows, timesteps, embeddings, cache, layout, added)
        self._whole = tuple(rows.shape[2:])
        prompts = (embeddings, *cache.laid_out(layout))
        kind = ("unet", tuple(rows.shape[1:]), tuple(tuple(prompt.shape[1:]) for prompt in prompts))
        engine = self._builder.get((*kind, len(rows)))
        if engine is not None:
            return engine([rows, timesteps], prompts)[0]
        parts = _cover(len(rows), {spec[-1]: one for spec, one in self._builder.ready().items() if spec[:-1] == kind})
        if not parts:
            return self._eager.denoise(rows, timesteps, embeddings, cache, layout)
        for first, end, _ in parts:
            self._builder.get((*kind, end - first))  # in use, and so not to be given up
        inputs = (rows, timesteps, *prompts)
        return torch.cat([one([value[first:end] for value in inputs])[0] for first, end, one in parts])

    def network(
        self,
        name: str,
        make: Callable[[], torch.nn.Module],
        moving: Sequence[torch.Tensor],
        staying: Sequence[torch.Tensor],
    ) -> list[torch.Tensor] | None:
        self._makers[name] = make
        inputs = (*moving, *staying)
        shapes = tuple(("float32" if one.is_floating_point() else "int64", *one.shape) for one in inputs)
        builder = self._networks if name.startswith("unet") else self._small_networks
        engine = builder.get(("network", name, shapes))
        return None if engine is None else engine(moving, staying)

    def weights_changed(self) -> None:
        self._digests = {}
        self._round += 1
        self._written.clear()
        for builder in self._builders:
            builder.clear()

    def wait(self) -> None:
        for builder in self._builders:
            builder.wait()

    def news(self) -> list[str]:
        return [news for builder in self._builders for news in builder.news()]

    def close(self) -> None:
        for builder in self._builders:
            builder.close()
        self._compiler.stop()
        self._written.clear()

    # -- on the builder's thread --------------------------------------------------------------------------------------

    def _build(self, spec: Spec) -> Engine:
        weights = self._round
        bounds = self._bounds_of(spec)  # another builder's thread may find out meanwhile that they cannot be used
        key = key_of(
            **self._ground(spec, bounds),
            spec=spec,
            config=self._config,
            device=self._core.get_property(self._device, "FULL_DEVICE_NAME"),
            abilities=sorted(self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES")),
        )
        stored = self._cache.load(key)
        if stored is not None:
            try:
                return self._imported(stored)
            except RuntimeError:
                self._cache.remove(key)  # whole, but not for this OpenVINO
        try:
            blob = self._compiled(spec, bounds)
        except RuntimeError as error:
            if isinstance(error, StoppedError) or not bounds:
                raise
            logger.warning("%s cannot run the %s in eight bits, and runs it exactly: %s", self.name, _part(spec), error)
            self._bounds.pop(_bounded(spec), None)
            return self._build(spec)
        engine = self._imported(blob)
        if weights == self._round:  # or else it may be of others than its key says
            self._cache.store(key, blob)
        return engine

    def _ground(self, spec: Spec, bounds: Bounds) -> dict[str, Any]:
        """What a graph is made from beside its spec, JSON-able."""
        return {
            "graphs": _GRAPHS,
            "weights": self._digest("unet" if _of_unet(spec) else "autoencoder"),
            "bounds": dict(bounds),
            "versions": [version(name) for name in ("openvino", "torch", "diffusers")],
        }

    def _bounds_of(self, spec: Spec) -> Bounds:
        """Between which values the network of ``spec`` is to calculate in eight bits; empty where in floating point."""
        bounds = self._bounds.get(_bounded(spec), {})
        if _bounded(spec) == "decoder":
            return bounds if spec[0] == "network" else {}
        # In bfloat16 they would be no faster; and with other weights its values are others.
        exact = self._model.dtype != torch.float32 or (_of_unet(spec) and self._model.adapters.in_unet)
        return {} if exact else bounds

    def _digest(self, part: str) -> str:
        if part not in self._digests:
            module = self._model.unet if part == "unet" else self._model.autoencoder.module
            self._digests[part] = weights_digest(module)
        return self._digests[part]

    def _imported(self, blob: bytes) -> Engine:
        return Engine(self._core.import_model(io.BytesIO(blob), self._device, self._config))

    def _compiled(self, spec: Spec, bounds: Bounds) -> bytes:
        # The stream needs its own engines now; those of windows only make it faster.
        background = spec[0] == "network" and tuple(spec[2][0][-2:]) != self._whole
        while True:
            with self._compiler.turn(background), tempfile.TemporaryDirectory(prefix="vitrail-") as folder:
                try:
                    return self._compiled_in(Path(folder), spec, bounds)
                except GaveWayError:
                    continue

    def _compiled_in(self, folder: Path, spec: Spec, bounds: Bounds) -> bytes:
        kind, weights, graph = _kind(spec), self._round, folder / "graph.xml"
        compiled = partial(self._compiler.compile, out=folder / "blob", device=self._device, config=self._config)
        key = None if kind is None else key_of(**self._ground(spec, bounds), kind=kind)
        written = None if key is None else self._written.find(key)
        if written is not None:
            try:
                return compiled(written, shapes=[shape for _, *shape in spec[2]])
            except (StoppedError, GaveWayError):
                raise
            except RuntimeError as error:
                logger.debug("the graph of another size does not do for %s: %s", spec, error)
        self._write(spec, bounds, graph)
        if key is not None and weights == self._round:
            self._written.keep(key, graph)
        return compiled(graph)

    def _write(self, spec: Spec, bounds: Bounds, path: Path) -> None:
        channels = self._model.autoencoder.latent_channels
        if spec == ENCODER:
            encoder = Encoder(self._model.autoencoder)
            quantise(encoder.module.encoder, bounds)
            write_graph(encoder, [torch.zeros(1, 3, 64, 64)], [[OPEN, 3, OPEN, OPEN]], path)
        elif spec == DECODER:
            latent = torch.zeros(1, channels, 8, 8)
            write_graph(Decoder(self._model.autoencoder), [latent], [[OPEN, channels, OPEN, OPEN]], path)
        elif spec[0] == "network":
            examples = [torch.zeros(shape, dtype=getattr(torch, kind)) for kind, *shape in spec[2]]
            made = self._makers[spec[1]]()
            # Whole or in parts: one is to look like the other.
            quantise(made.module.decoder if isinstance(made, Decoder) else made.get_submodule("unet"), bounds)
            write_graph(made, examples, [list(one.shape) for one in examples], path)
        else:
            _, latent_shape, prompt_shapes, rows = spec
            prompts = [torch.zeros(rows, *shape) for shape in prompt_shapes]
            examples = [torch.zeros(rows, *latent_shape), torch.zeros(rows, dtype=torch.int64), *prompts]
            unet = CachedUNet(self._model.unet)
            quantise(unet.unet, bounds)
            write_graph(unet, examples, [list(one.shape) for one in examples], path)


def _kind(spec: Spec) -> tuple[Any, ...] | None:
    """What networks have in common that only differ in sizes, JSON-able; None where each is written on its own."""
    if spec[0] != "network":
        return None
    _, name, shapes = spec
    return name, shapes[0][1], tuple((kind, len(shape)) for kind, *shape in shapes)


def _part(spec: Spec) -> str:
    """What of the model it is of: ``encoder``, ``unet-part`` ..."""
    return str(spec[1] if spec[0] == "network" else spec[0])


def _of_unet(spec: Spec) -> bool:
    return _part(spec).startswith("unet")


def _bounded(spec: Spec) -> str:
    """By what name the model states the bounds of what the network is of."""
    return "unet" if _of_unet(spec) else _part(spec)


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
