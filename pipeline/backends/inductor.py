"""torch.compile's Inductor: fused kernels for each network and shape, compiled beside and kept on disk.

What is compiled holds no weights. So one engine serves every model of the same shape, a change of weights in place is
seen at once, and a start finds on disk what an earlier one has compiled, for whatever model.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, TypedDict

import psutil
import torch
from torch import nn

from pipeline.backends import inductor_build
from pipeline.backends.backend import AccelerationError, Tensors
from pipeline.backends.beside import creation_flags
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.graphs import Function
from pipeline.backends.weights_digest import configuration
from pipeline.conditioning.conditions import Signature, signature_of
from pipeline.file_cache import key_of
from pipeline.models.errors import first_line
from pipeline.models.networks import placed
from pipeline.temporary import temporary_folder

if TYPE_CHECKING:
    from torch._inductor.standalone_compile import CompiledArtifact

    from pipeline.models.model import Model

# Change this with anything that changes what is compiled, so that no engine of before is found again.
_GRAPHS = 1
_SECONDS = 1200
# How far what is compiled may be from the network itself, as a share of the length of its output: numbers of 16 bits
# that are added in another order differ by some thousandths.
_TOLERANCE = 0.05
# Megabytes that a process that compiles needs of the device beside the weights.
_BESIDE_MB = 1500


class Inductor:
    """Compiles networks, each in a process of its own. Used by several threads at once.

    Args:
        cache: where what was compiled is kept; by default the user's cache folder.
    """

    def __init__(self, cache: EngineCache | None = None) -> None:
        self._cache = cache or EngineCache()
        self._lock = threading.Lock()
        self._processes = _Processes()
        self._beside: torch.cuda.Stream | None = None
        weakref.finalize(self, self._processes.stop)  # also when the interpreter ends

    def __call__(self, module: nn.Module, examples: Tensors) -> Function:
        """A function that gives what ``module`` gives, for inputs of the shapes of ``examples``, on its weights.

        Raises:
            RuntimeError: it cannot be compiled; the message says why in one line.
        """
        inputs, device = signature_of(examples), next(iter(examples.values())).device
        key = _key(module, inputs, device)
        stored = self._cache.load(key)
        if stored is not None:
            try:
                return self._loaded(stored, module, examples)
            except RuntimeError:
                self._cache.remove(key)
        built = self._built(module, inputs, device)
        function = self._loaded(built, module, examples)
        self._cache.store(key, built)
        return function

    def stop(self) -> None:
        """End what is being compiled; nothing is compiled after this."""
        self._processes.stop()

    def _built(self, module: nn.Module, inputs: Signature, device: torch.device) -> bytes:
        _check_memory(module, device)
        bare = placed(module, lambda one: torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="meta"))
        with temporary_folder() as folder:
            out = folder / "network.bin"
            process = self._processes.start()
            try:
                job = inductor_build.Job(bare, inputs, str(device), str(out))
                _, said = process.communicate(pickle.dumps(job), timeout=_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise RuntimeError(f"the compiler was not done after {_SECONDS} seconds") from error
            finally:
                self._processes.end(process)
            if process.returncode or not out.is_file():
                lines = said.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
                raise RuntimeError(f"the compiler failed: {lines[-1]}")
            return _joined(out.with_suffix(".json").read_bytes(), out.read_bytes())

    def _loaded(self, built: bytes, module: nn.Module, examples: Tensors) -> Function:
        try:
            facts, function = _read(built)
        except Exception as error:  # PyTorch's loader may raise anything
            raise RuntimeError(f"what was compiled cannot be loaded: {first_line(error)}") from error
        weights = {**dict(module.named_parameters()), **dict(module.named_buffers(remove_duplicate=False))}
        compiled = _Compiled(function, facts["arguments"], facts["outputs"], weights)
        with self._beside_the_picture(next(iter(examples.values())).device):
            _check_same(compiled, module, examples)
        return compiled

    @contextlib.contextmanager
    def _beside_the_picture(self, device: torch.device) -> Iterator[None]:
        """On CUDA, on a stream of its own: on the default one, the next picture would wait for what runs inside."""
        if device.type != "cuda":
            yield
            return
        with self._lock:  # one for all: cuBLAS keeps memory of its own for each
            stream = self._beside = self._beside or torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()


class _Processes:
    """Those that compile. None is left when this is stopped, nor what they have started themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def start(self) -> subprocess.Popen[bytes]:
        """A new one, which waits for its job. Raises ``RuntimeError`` after ``stop``."""
        # Where this process found its modules, in the same order: it may not be an installed package.
        code = f"import sys; sys.path[:] = {sys.path!r}; from pipeline.backends import inductor_build as build; "
        command = [sys.executable, "-W", "ignore", "-c", code + f"sys.exit(build.main({os.getpid()}))"]
        pipe = subprocess.PIPE
        with self._lock:
            if self._stopped:
                raise RuntimeError("it is not wanted any more")
            # In a session of its own: an interrupt at the terminal is for the program, which then stops this one.
            process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=subprocess.DEVNULL,
                stderr=pipe,
                creationflags=creation_flags(),
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End one, if it has not ended."""
        with self._lock:
            self._running.discard(process)
        inductor_build.end_with_children(process.pid)
        process.wait()

    def stop(self) -> None:
        """End all; none is started after this."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                inductor_build.end_with_children(process.pid)


class _Facts(TypedDict):
    """As ``inductor_build`` writes them."""

    arguments: list[tuple[bool, str]]
    outputs: list[str]


class _Compiled:
    """What was compiled, called with the weights of a model.

    Args:
        function: takes and gives tensors in order.
        arguments: of each argument whether it is a weight, and its name.
        outputs: the names of what it gives.
        weights: by name.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[torch.Tensor]],
        arguments: Sequence[tuple[bool, str]],
        outputs: Sequence[str],
        weights: Tensors,
    ) -> None:
        self._function = function
        self._arguments = [(weights[name] if is_weight else None, name) for is_weight, name in arguments]
        self._outputs = outputs

    def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        given = self._function(*(tensors[name] if weight is None else weight for weight, name in self._arguments))
        return dict(zip(self._outputs, given, strict=True))


def _joined(facts: bytes, artifact: bytes) -> bytes:
    return len(facts).to_bytes(8, "little") + facts + artifact


def _read(built: bytes) -> tuple[_Facts, Callable[..., Sequence[torch.Tensor]]]:
    """What was ``_joined``: what it takes and gives, and what does it."""
    end = 8 + int.from_bytes(built[:8], "little")
    facts: _Facts = json.loads(built[8:end])
    with temporary_folder() as folder:
        path = folder / "network.bin"
        path.write_bytes(built[end:])
        return facts, _loader().load(path=str(path), format="binary")


def _loader() -> type[CompiledArtifact]:
    from torch._inductor.standalone_compile import CompiledArtifact

    return CompiledArtifact


def _key(module: nn.Module, inputs: Signature, device: torch.device) -> str:
    weights = [(name, str(one.dtype), list(one.shape), list(one.stride())) for name, one in module.state_dict().items()]
    return key_of(
        compiled=_GRAPHS,
        module=repr(module),
        config={name: configuration(one) for name, one in module.named_children()},
        weights=weights,
        inputs=[(name, str(dtype), list(shape)) for name, dtype, shape in inputs],
        device=_described(device),
        versions=[version("torch"), version("diffusers")],
    )


def _described(device: torch.device) -> list[object]:
    if device.type != "cuda":
        return [device.type, torch.backends.cpu.get_cpu_capability()]
    return [torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device), torch.version.cuda]


def _check_memory(module: nn.Module, device: torch.device) -> None:
    """Raises ``RuntimeError`` where a second copy of the weights, which compiling needs, does not fit."""
    megabytes = sum(one.numel() * one.element_size() for one in module.parameters()) / 2**20
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] / 2**20
    else:
        free = psutil.virtual_memory().available / 2**20
    if megabytes + _BESIDE_MB > free:
        raise RuntimeError(f"compiling takes {megabytes + _BESIDE_MB:.0f} MB of memory, and {free:.0f} MB are free")


def _check_same(compiled: Function, module: nn.Module, examples: Tensors) -> None:
    """Raises ``RuntimeError`` where ``compiled`` gives other numbers than ``module``: a picture is never made of it."""
    generator = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(one.shape, generator=generator).to(one) if one.is_floating_point() else one
        for name, one in examples.items()
    }
    expected, given = module(**inputs), compiled(**inputs)
    for name, one in expected.items():
        error = (given[name].float() - one.float()).norm() / one.float().norm().clamp_min(1e-12)
        if not float(error) <= _TOLERANCE:  # one that is not a number is none either
            raise RuntimeError(f"what was compiled differs from the network by {float(error):.1%}")


def check_compiler(model: Model) -> None:
    """Raise ``AccelerationError`` where Inductor has nothing to compile with."""
    import shutil
    from importlib.util import find_spec

    if model.device.type == "cuda" and find_spec("triton") is None:
        raise AccelerationError("torch.compile needs triton for CUDA: pip install triton (triton-windows on Windows)")
    if model.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise AccelerationError("torch.compile needs a C++ compiler for the CPU: install g++, clang or MSVC")
    if not hasattr(torch._inductor, "standalone_compile"):
        raise AccelerationError(f"torch.compile is used as torch 2.8 and later have it; this is {torch.__version__}")
