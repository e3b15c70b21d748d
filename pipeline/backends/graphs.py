"""CUDA graphs: a whole network is launched as one, so that the GPU never waits for Python.

At one frame a call a UNet is hundreds of small kernels, and launching them takes longer than running them. What is
captured may be the modules as they are, which takes a second, or what a compiler has made of them, which takes a
minute: these are *stages*, and the best that is there serves. The weights are shared with the model, so that a change
in place is seen at once. On a CPU there is nothing to capture, and the function is called as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from pipeline.backends.backend import AccelerationError, Capabilities, Tensors
from pipeline.backends.builder import Builder
from pipeline.backends.cuda.capture import Capturer
from pipeline.backends.cuda.fused import fuse
from pipeline.backends.engine_backend import Engine, EngineBackend
from pipeline.backends.spec import Spec
from pipeline.conditioning.conditions import Signature
from pipeline.models.networks import Network

if TYPE_CHECKING:
    from pipeline.models.model import Model

# Named tensors in, named tensors out.
Function = Callable[..., dict[str, torch.Tensor]]
# Makes a faster function of a module, given example inputs by name.
Optimise = Callable[[torch.nn.Module, Tensors], Function]

# Graphs share the weights, and of one network the memory, so that many can be kept.
_MOST_PICTURES, _MOST_WINDOWS = 24, 40
# Two streams ask for three networks each. What a user has passed by on the way to another size is not built.
_MOST_WAITING = 6
# Without ``windows``: they run on graphs as well, one for each of their few shapes, but have never been measured to be
# faster than the whole picture.
CAPABILITIES = Capabilities(shares_weights=True)


@dataclass(frozen=True, slots=True)
class Stage:
    """One way to make networks faster.

    Attributes:
        name: for people.
        optimise: what becomes of a module before it is captured.
        building: what it does meanwhile, for people.
        threads: how many networks are optimised at a time.
        stop: ends what is being optimised.
    """

    name: str
    optimise: Optimise
    building: str
    threads: int = 1
    stop: Callable[[], None] = lambda: None


class GraphBackend(EngineBackend):
    """Runs a model through functions that are optimised for one shape each, captured where the device is CUDA.

    Args:
        model: whose networks are run, on the device that it is on.
        name: of the acceleration.
        stages: each better than the one before, and longer in the making. All are ordered at once; each serves from
            when it is there until the next is. One that cannot be had leaves the one before it in its place.
        notes: the first ``news``.
    """

    def __init__(self, model: Model, name: str, *stages: Stage, notes: Sequence[str] = ()) -> None:
        super().__init__(model, name, CAPABILITIES, notes)
        self._stages = stages
        self._pictures: list[Builder[Engine]] = []
        for number, stage in enumerate(stages):
            instead = stages[number - 1].name if number else "PyTorch"
            self._pictures.append(self._builder(stage, _MOST_PICTURES, _MOST_WAITING, instead))
        # A network of the sparse engine's windows has many shapes, and none for long: it takes the quickest stage.
        self._windows = self._builder(stages[0], _MOST_WINDOWS, _MOST_WINDOWS, "PyTorch")
        self._capturers: dict[str, Capturer] = {}  # by network

    def progress(self) -> str:
        """See ``Backend``."""
        asked = [one.spec for name, one in list(self._last.items()) if not self._networks[name].window]
        serving = min((self._serving(spec) for spec in asked), default=-1)
        name = self._stages[serving].name if serving >= 0 else self._eager.name
        for stage, builder in zip(self._stages, self._pictures, strict=True):
            left = sum(builder.building(spec) for spec in asked)
            if left:
                return f"{name}, {stage.building} {len(asked) - left + 1} of {len(asked)}"
        return name

    def close(self) -> None:
        """See ``Backend``."""
        super().close()
        for stage in self._stages:
            stage.stop()

    def _builder(self, stage: Stage, most: int, waiting: int, instead: str) -> Builder[Engine]:
        return Builder(
            partial(self._build, stage), stage.name, most, waiting=waiting, threads=stage.threads, instead=instead
        )

    def _builders(self) -> Iterable[Builder[Engine]]:
        return *self._pictures, self._windows

    def _builder_of(self, spec: Spec) -> Builder[Engine]:
        return self._windows if self._networks[spec.network].window else self._pictures[-1]

    def _found(self, network: Network, spec: Spec) -> tuple[Spec, Engine] | None:
        self._networks[network.name] = network
        builders = [self._windows] if network.window else self._pictures
        if self.patient:
            engines = (builder.get(spec, patient=True) for builder in reversed(builders))
        else:  # all are asked, so that all are ordered
            engines = iter([builder.get(spec) for builder in reversed(builders)])
        found = next((engine for engine in engines if engine is not None), None)
        return None if found is None else (spec, found)

    def _failed(self, spec: Spec, engine: Engine, error: Exception) -> None:
        for builder in self._builders():
            if builder.ready().get(spec) is engine:
                builder.failed(spec, error)

    def _serving(self, spec: Spec) -> int:
        """The number of the best stage that is there; -1 for none."""
        return max((number for number, one in enumerate(self._pictures) if one.has(spec)), default=-1)

    def _forget(self, part: str, *, moved: bool) -> None:
        if moved:
            for builder in self._builders():
                builder.clear(part)

    @torch.inference_mode()
    def _build(self, stage: Stage, spec: Spec) -> Engine:
        network = self._networks[spec.network]
        with self._model.residency.lock:
            module = network.module().eval()
        moving, staying = self._examples(spec.moving), self._examples(spec.staying)
        capturer = None
        if self._model.device.type == "cuda":
            capturer = self._capturers.setdefault(network.name, Capturer(self._model.device))
        return _Runner(stage.optimise(module, {**moving, **staying}), moving, staying, capturer)

    def _examples(self, signature: Signature) -> dict[str, torch.Tensor]:
        return {name: torch.zeros(shape, dtype=dtype, device=self._model.device) for name, dtype, shape in signature}


class _Runner:
    """One function with inputs of its own, captured as a graph where it runs on CUDA.

    Args:
        moving: example inputs that differ from call to call.
        staying: those that are the same for many calls; each is copied only where it is another tensor.
        capturer: captures the function; None: it is called as it is.
    """

    def __init__(
        self,
        function: Function,
        moving: dict[str, torch.Tensor],
        staying: dict[str, torch.Tensor],
        capturer: Capturer | None = None,
    ) -> None:
        self._moving, self._staying = moving, staying
        self._seen: Tensors = {}
        self._copied: dict[str, torch.Tensor] = {}  # what each staying input was copied from
        self._function = function  # also of a captured one: its weights are read where they lie
        self._replay: Callable[[], None] | None = None
        if capturer is not None:
            self._outputs, self._replay = capturer(self._call)

    def _call(self) -> dict[str, torch.Tensor]:
        return self._function(**self._moving, **self._staying)

    def __call__(self, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        for name, mine in self._moving.items():
            mine.copy_(moving[name], non_blocking=True)
        if staying is not self._seen:
            for name, given in staying.items():
                if self._copied.get(name) is not given:
                    self._staying[name].copy_(given, non_blocking=True)
                    self._copied[name] = given
            self._seen = staying
        if self._replay is None:
            outputs = self._call()
        else:
            self._replay()
            outputs = self._outputs
        return {name: output.clone() for name, output in outputs.items()}  # the next replay writes over them


def _with_own_kernels(module: torch.nn.Module, examples: Tensors) -> Function:
    if next(iter(examples.values())).device.type == "cuda":
        fuse(module)
    return module


# Captured without a compiler, which takes a second instead of a minute.
CUDA_GRAPHS = Stage("cuda-graphs", _with_own_kernels, "capturing")


def compiled(optimise: Optimise, stop: Callable[[], None]) -> Stage:
    """The stage of a compiler; it works on as many networks at a time as have four cores each."""
    return Stage("compile", optimise, "compiling", max(1, min(3, (os.cpu_count() or 1) // 4)), stop)


def check_cuda(model: Model, name: str) -> None:
    """Raise ``AccelerationError`` where ``name`` needs a CUDA device and the model is elsewhere."""
    if model.device.type != "cuda":
        raise AccelerationError(f"{name} needs a CUDA device, and the model is on {model.device}")
