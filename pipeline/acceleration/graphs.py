"""CUDA graphs: a whole network is launched as one, so that the GPU never waits for Python.

At one frame a call a UNet is hundreds of small kernels, and launching them takes longer than running them. What is
captured may be the modules as they are, or what a compiler has made of them (``compile``, ``tensorrt``). The weights
are shared with the model, so that a change in place is seen at once. On a CPU there is nothing to capture, and the
compiled function is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline.acceleration.backend import AccelerationError
from pipeline.acceleration.builder import Builder, Spec
from pipeline.acceleration.eager import EagerBackend
from pipeline.attention_cache import AttentionCache, uncached_copy
from pipeline.guidance import RowLayout

if TYPE_CHECKING:
    from pipeline.models.model import Model

Function = Callable[..., torch.Tensor]
# Makes a faster function of a module, given example inputs.
Optimise = Callable[[torch.nn.Module, Sequence[torch.Tensor]], Function]

_WARM_UPS = 3


class GraphBackend:
    """Runs a model through functions that are optimised for one shape each, captured where the device is CUDA.

    Args:
        model: where its modules are is where everything runs.
        name: of the acceleration.
        optimise: what becomes of a module before it is captured.
    """

    def __init__(self, model: Model, name: str, optimise: Optimise) -> None:
        self.name = name
        self._model = model
        self._optimise = optimise
        self._eager = EagerBackend(model)
        self._builder: Builder[_Runner] = Builder(self._build, name)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        runner = self._builder.get(("encoder", tuple(pictures.shape)))
        return self._eager.encode(pictures) if runner is None else runner([pictures], ())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        runner = self._builder.get(("decoder", tuple(latents.shape)))
        return self._eager.decode(latents) if runner is None else runner([latents], ())

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
        return runner([rows, timesteps], prompts)

    def network(self, *_: object, **__: object) -> None:
        return None  # not measured on a GPU: the caller runs the module

    def weights_changed(self) -> None:
        self._builder.clear()

    def wait(self) -> None:
        self._builder.wait()

    def news(self) -> list[str]:
        return self._builder.news()

    def close(self) -> None:
        self._builder.close()

    @torch.inference_mode()
    def _build(self, spec: Spec) -> _Runner:
        device, dtype = self._model.device, self._model.dtype
        module: torch.nn.Module
        if spec[0] == "unet":
            module = _UNet(self._model, shared_copy(self._model.unet), spec[3])
            moving = [torch.zeros(spec[1], device=device), torch.zeros(spec[1][0], dtype=torch.int64, device=device)]
            staying = [torch.zeros(shape, dtype=dtype, device=device) for shape in spec[2]]
        else:
            module = _Encoder(self._model) if spec[0] == "encoder" else _Decoder(self._model)
            moving, staying = [torch.zeros(spec[1], device=device)], []
        function = self._optimise(module.eval(), [*moving, *staying])
        return _Runner(function, moving, staying)


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
        stream = torch.cuda.Stream(moving[0].device)
        stream.wait_stream(torch.cuda.current_stream(moving[0].device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # The stream on screen goes on in another thread meanwhile, and may allocate.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._output = function(*inputs)
        stream.synchronize()

    def __call__(self, moving: Sequence[torch.Tensor], staying: tuple[torch.Tensor, ...]) -> torch.Tensor:
        for mine, given in zip(self._moving, moving, strict=True):
            mine.copy_(given, non_blocking=True)
        if len(self._last) != len(staying) or any(a is not b for a, b in zip(self._last, staying, strict=True)):
            for mine, given in zip(self._staying, staying, strict=True):
                mine.copy_(given, non_blocking=True)
            self._last = staying
        if self._graph is None:
            return self._function(*self._moving, *self._staying).clone()
        self._graph.replay()
        return self._output.clone()  # the next replay writes over it


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


class _Encoder(torch.nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self._dtype, self._autoencoder = model.dtype, model.autoencoder
        self.module = model.autoencoder.module

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self._autoencoder.encode(given.to(self._dtype, memory_format=torch.channels_last)).float()


class _Decoder(_Encoder):
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
