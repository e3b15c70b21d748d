"""CUDA graphs: a whole network is launched as one, so that the GPU never waits for Python.

At one frame a call a UNet is hundreds of small kernels, and launching them takes longer than running them. What is
captured may be the modules as they are, or what a compiler has made of them (``compile``, ``tensorrt``). The weights
are shared with the model, so that a change in place is seen at once. The sparse engine's windows have a graph for each
of their few shapes. On a CPU there is nothing to capture, and the compiled function is called as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline.backends.backend import AccelerationError
from pipeline.backends.builder import Builder, Spec
from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.attention_cache import AttentionCache, uncached_copy
from pipeline.diffusion.guidance import RowLayout

if TYPE_CHECKING:
    from pipeline.models.model import Model

Function = Callable[..., torch.Tensor | Sequence[torch.Tensor]]
# Makes a faster function of a module, given example inputs.
Optimise = Callable[[torch.nn.Module, Sequence[torch.Tensor]], Function]

_WARM_UPS = 3
# Networks of the sparse engine's windows that are kept: of the UNet and both halves of the autoencoder.
_MOST_NETWORKS = 40
# Whole pictures' and windows' graphs are built on a thread each; a capture begins with waiting for the device, and
# should not meet another one.
_CAPTURE = threading.Lock()


class GraphBackend:
    """Runs a model through functions that are optimised for one shape each, captured where the device is CUDA.

    Args:
        model: where its modules are is where everything runs.
        name: of the acceleration.
        optimise: what becomes of a module before it is captured.
    """

    shares_weights = True

    def __init__(self, model: Model, name: str, optimise: Optimise) -> None:
        self.name = name
        self._model = model
        self._optimise = optimise
        self._eager = EagerBackend(model)
        self._builder: Builder[_Runner] = Builder(self._build, name)
        self._networks: Builder[_Runner] = Builder(self._build_network, name, _MOST_NETWORKS)
        self._makers: dict[str, Callable[[], torch.nn.Module]] = {}

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        runner = self._builder.get(("encoder", tuple(pictures.shape)))
        return self._eager.encode(pictures) if runner is None else runner([pictures])[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        runner = self._builder.get(("decoder", tuple(latents.shape)))
        return self._eager.decode(latents) if runner is None else runner([latents])[0]

    def denoise(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        added: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        added = added or {}
        prompts = (embeddings, *added.values(), *cache.laid_out(layout))
        shapes = tuple(tuple(prompt.shape) for prompt in prompts)
        runner = self._builder.get(("unet", tuple(rows.shape), shapes, tuple(added)))
        if runner is None:
            return self._eager.denoise(rows, timesteps, embeddings, cache, layout, added or None)
        return runner([rows, timesteps], prompts)[0]

    def network(
        self,
        name: str,
        make: Callable[[], torch.nn.Module],
        moving: Sequence[torch.Tensor],
        staying: Sequence[torch.Tensor],
    ) -> list[torch.Tensor] | None:
        self._makers[name] = make
        inputs = [*moving, *staying]  # what stays is written to in place: it is handed over anew
        kinds = tuple((str(one.dtype).removeprefix("torch."), *one.shape) for one in inputs)
        runner = self._networks.get(("network", name, kinds))
        return None if runner is None else runner(inputs)

    def weights_changed(self) -> None:
        for builder in (self._builder, self._networks):
            builder.clear()

    def wait(self) -> None:
        for builder in (self._builder, self._networks):
            builder.wait()

    def news(self) -> list[str]:
        return [*self._builder.news(), *self._networks.news()]

    def close(self) -> None:
        for builder in (self._builder, self._networks):
            builder.close()

    @torch.inference_mode()
    def _build(self, spec: Spec) -> _Runner:
        device, dtype = self._model.device, self._model.dtype
        module: torch.nn.Module
        if spec[0] == "unet":
            module = _UNet(self._model, shared_copy(self._model.unet), spec[3])
            moving = [torch.zeros(spec[1], device=device), torch.zeros(spec[1][0], dtype=torch.int64, device=device)]
            staying = [torch.zeros(shape, dtype=dtype, device=device) for shape in spec[2]]
        else:
            module = Encoder(self._model) if spec[0] == "encoder" else Decoder(self._model)
            moving, staying = [torch.zeros(spec[1], device=device)], []
        function = self._optimise(module.eval(), [*moving, *staying])
        return _Runner(function, moving, staying)

    @torch.inference_mode()
    def _build_network(self, spec: Spec) -> _Runner:
        _, name, kinds = spec
        module = self._makers[name]().eval()
        inputs = [torch.zeros(shape, dtype=getattr(torch, kind), device=self._model.device) for kind, *shape in kinds]
        return _Runner(self._optimise(module, inputs), inputs, [])


class _Runner:
    """One function with inputs of its own, captured as a graph where it runs on CUDA.

    Args:
        moving: example inputs that differ from call to call.
        staying: those that are the same for many calls, and are copied only where they are not.
    """

    def __init__(self, function: Function, moving: list[torch.Tensor], staying: list[torch.Tensor]) -> None:
        self._moving, self._staying = moving, staying
        self._last: tuple[torch.Tensor, ...] = ()
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        inputs = [*moving, *staying]
        if moving[0].device.type != "cuda":
            function(*inputs)  # a compiler works at the first call
            return
        with _CAPTURE:
            self._capture(inputs)

    def _capture(self, inputs: Sequence[torch.Tensor]) -> None:
        device = inputs[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(*inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # The stream on screen goes on in another thread meanwhile, and may allocate.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._outputs = _listed(self._function(*inputs))
        stream.synchronize()

    def __call__(self, moving: Sequence[torch.Tensor], staying: tuple[torch.Tensor, ...] = ()) -> list[torch.Tensor]:
        for mine, given in zip(self._moving, moving, strict=True):
            mine.copy_(given, non_blocking=True)
        if len(self._last) != len(staying) or any(a is not b for a, b in zip(self._last, staying, strict=True)):
            for mine, given in zip(self._staying, staying, strict=True):
                mine.copy_(given, non_blocking=True)
            self._last = staying
        if self._graph is None:
            return [one.clone() for one in _listed(self._function(*self._moving, *self._staying))]
        self._graph.replay()
        return [one.clone() for one in self._outputs]  # the next replay writes over them


def _listed(outputs: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else outputs


def as_it_is(module: torch.nn.Module, _: Sequence[torch.Tensor]) -> Function:
    """For ``cuda-graphs``: captured without a compiler, which takes a second instead of a minute."""
    return module


def with_inductor(module: torch.nn.Module, _: Sequence[torch.Tensor]) -> Function:
    """For ``compile``: torch.compile's fused kernels. The graphs are captured here, not by it: its own are bound to the
    thread that made them."""
    return torch.compile(module, dynamic=False, options={"triton.cudagraphs": False})


def check_cuda(model: Model, name: str) -> None:
    """Raise ``AccelerationError`` where ``name`` needs a CUDA device and the model is elsewhere."""
    if model.device.type != "cuda":
        raise AccelerationError(f"{name} needs a CUDA device, and the model is on {model.device}")


def check_compiler(model: Model) -> None:
    """Raise ``AccelerationError`` where torch.compile has nothing to compile with."""
    import shutil
    from importlib.util import find_spec

    if model.device.type == "cuda" and find_spec("triton") is None:
        raise AccelerationError("torch.compile needs triton for CUDA: pip install triton (triton-windows on Windows)")
    if model.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise AccelerationError("torch.compile needs a C++ compiler for the CPU: install g++, clang or MSVC")


def shared_copy(unet: torch.nn.Module) -> Any:
    """A copy of a UNet's structure around the very same weights, with processors of its own."""
    memo: dict[int, Any] = {id(one): one for one in [*unet.parameters(), *unet.buffers()]}
    return uncached_copy(unet, memo)


class Encoder(torch.nn.Module):
    """The model's own, as a backend calls it: (F, 3, H, W) pictures to (F, C, h, w) float32 latents."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._dtype, self._autoencoder = model.dtype, model.autoencoder
        self.module = model.autoencoder.module

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self._autoencoder.encode(given.to(self._dtype, memory_format=torch.channels_last)).float()


class Decoder(Encoder):
    """The same for latents to pictures."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self._autoencoder.decode(given.to(self._dtype, memory_format=torch.channels_last))


class _UNet(torch.nn.Module):
    """With the prompts as inputs: embeddings, then what is ``added`` (by name, for SDXL), then keys and values."""

    def __init__(self, model: Model, unet: Any, added: tuple[str, ...]) -> None:
        super().__init__()
        self._dtype = model.dtype
        self._added = added
        self.unet = unet
        self._cache = AttentionCache(unet)
        self._cache.inject()

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor, *prompts: torch.Tensor
    ) -> torch.Tensor:
        added = dict(zip(self._added, prompts, strict=False)) or None
        self._cache.use(prompts[len(self._added) :])
        rows = rows.to(self._dtype, memory_format=torch.channels_last)
        return self.unet(rows, timesteps, embeddings, added_cond_kwargs=added, return_dict=False)[0].float()
