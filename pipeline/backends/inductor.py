"""torch.compile: Inductor's fused kernels for each network and shape."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pipeline.backends.backend import AccelerationError, Tensors
from pipeline.backends.graphs import Function

if TYPE_CHECKING:
    from pipeline.models.model import Model


def with_inductor(module: torch.nn.Module, _: Tensors) -> Function:
    """For ``compile``: compiled as a whole, or not at all.

    Dynamo keeps what it has compiled with the code that it compiled, and gives a code object up after a few builds
    (``recompile_limit``). Every build therefore compiles code of its own, and a build that cannot be one graph is an
    error that is told, never a silent return to eager. The graphs of CUDA are captured by the caller: Inductor's own
    are bound to the thread that made them.
    """
    options: dict[str, str | int | bool | Callable[..., object]] = {"triton.cudagraphs": False}
    return torch.compile(_own_code(module), dynamic=False, fullgraph=True, options=options)


def _own_code(module: torch.nn.Module) -> Function:
    """A function that calls ``module``, made of a code object that no other function has."""

    def call(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        return module(**tensors)

    made = types.FunctionType(call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__)
    made.__kwdefaults__ = call.__kwdefaults__
    return made


def check_compiler(model: Model) -> None:
    """Raise ``AccelerationError`` where torch.compile has nothing to compile with."""
    import shutil
    from importlib.util import find_spec

    if model.device.type == "cuda" and find_spec("triton") is None:
        raise AccelerationError("torch.compile needs triton for CUDA: pip install triton (triton-windows on Windows)")
    if model.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise AccelerationError("torch.compile needs a C++ compiler for the CPU: install g++, clang or MSVC")
