"""CUDA graphs: a whole network is launched as one, so that the GPU never waits for Python.

At one frame a call a UNet is hundreds of small kernels, and launching them takes longer than running them. What is
captured may be the modules as they are, or what a compiler has made of them (``compile``, ``tensorrt``). The weights
are shared with the model, so that a change in place is seen at once. The sparse engine's windows have a graph for each
of their few shapes. On a CPU there is nothing to capture, and the compiled function is called as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from pipeline.backends.backend import AccelerationError, Capabilities, Tensors
from pipeline.backends.builder import Builder
from pipeline.backends.engine_backend import Engine, EngineBackend
from pipeline.backends.spec import Spec
from pipeline.conditioning.conditions import Signature

if TYPE_CHECKING:
    from pipeline.models.model import Model

# Named tensors in, named tensors out.
Function = Callable[..., dict[str, torch.Tensor]]
# Makes a faster function of a module, given example inputs by name.
Optimise = Callable[[torch.nn.Module, Tensors], Function]

_WARM_UPS = 3
# Networks of the sparse engine's windows that are kept: of the UNet and both halves of the autoencoder.
_MOST_WINDOWS = 40
# Without ``windows``: they run on graphs as well, one for each of their few shapes, but have never been measured to be
# faster than the whole picture.
CAPABILITIES = Capabilities(shares_weights=True)
# Only one capture at a time: a capture waits for the device at its start, and fails where another thread waits for the
# device meanwhile. The builders of whole pictures and of windows have a thread each.
_CAPTURE = threading.Lock()


class GraphBackend(EngineBackend):
    """Runs a model through functions that are optimised for one shape each, captured where the device is CUDA.

    Args:
        model: whose networks are run, on the device that it is on.
        name: of the acceleration.
        optimise: what becomes of a module before it is captured.
        bakes_weights: whether ``optimise`` takes a copy of the weights, so that new ones need a new build.
    """

    def __init__(self, model: Model, name: str, optimise: Optimise, *, bakes_weights: bool = False) -> None:
        super().__init__(model, name, CAPABILITIES)
        self._optimise = optimise
        self._bakes_weights = bakes_weights
        self._pictures: Builder[Engine] = Builder(self._build, name)
        self._windows: Builder[Engine] = Builder(self._build, name, _MOST_WINDOWS)

    def _builders(self) -> Iterable[Builder[Engine]]:
        return self._pictures, self._windows

    def _builder_of(self, spec: Spec) -> Builder[Engine]:
        return self._windows if self._networks[spec.network].window else self._pictures

    def _forget(self, part: str, *, moved: bool) -> None:
        if moved or self._bakes_weights:
            for builder in self._builders():
                builder.clear(part)

    @torch.inference_mode()
    def _build(self, spec: Spec) -> Engine:
        with self._model.residency.lock:
            module = self._networks[spec.network].module().eval()
        moving, staying = self._examples(spec.moving), self._examples(spec.staying)
        return _Runner(self._optimise(module, {**moving, **staying}), moving, staying)

    def _examples(self, signature: Signature) -> dict[str, torch.Tensor]:
        return {name: torch.zeros(shape, dtype=dtype, device=self._model.device) for name, dtype, shape in signature}


class _Runner:
    """One function with inputs of its own, captured as a graph where it runs on CUDA.

    Args:
        moving: example inputs that differ from call to call.
        staying: those that are the same for many calls; each is copied only where it is another tensor.
    """

    def __init__(self, function: Function, moving: dict[str, torch.Tensor], staying: dict[str, torch.Tensor]) -> None:
        self._moving, self._staying = moving, staying
        self._seen: Tensors = {}
        self._copied: dict[str, torch.Tensor] = {}  # what each staying input was copied from
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        device = next(iter(moving.values())).device
        if device.type != "cuda":
            function(**moving, **staying)  # a compiler compiles at the first call
            return
        with _CAPTURE:
            self._capture(device)

    def _capture(self, device: torch.device) -> None:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(**self._moving, **self._staying)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # The stream on screen goes on in another thread meanwhile, and may allocate.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._outputs = self._function(**self._moving, **self._staying)
        stream.synchronize()

    def __call__(self, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        for name, mine in self._moving.items():
            mine.copy_(moving[name], non_blocking=True)
        if staying is not self._seen:
            for name, given in staying.items():
                if self._copied.get(name) is not given:
                    self._staying[name].copy_(given, non_blocking=True)
                    self._copied[name] = given
            self._seen = staying
        if self._graph is None:
            outputs = self._function(**self._moving, **self._staying)
        else:
            self._graph.replay()
            outputs = self._outputs
        return {name: output.clone() for name, output in outputs.items()}  # the next replay writes over them


def as_it_is(module: torch.nn.Module, _: Tensors) -> Function:
    """For ``cuda-graphs``: captured without a compiler, which takes a second instead of a minute."""
    return module


def check_cuda(model: Model, name: str) -> None:
    """Raise ``AccelerationError`` where ``name`` needs a CUDA device and the model is elsewhere."""
    if model.device.type != "cuda":
        raise AccelerationError(f"{name} needs a CUDA device, and the model is on {model.device}")
