"""TensorRT by way of torch-tensorrt, an optional package: NVIDIA's own compiler."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from pipeline.backends.backend import AccelerationError, Tensors
from pipeline.backends.engine_cache import default_folder
from pipeline.backends.graphs import Function, check_cuda

if TYPE_CHECKING:
    from pipeline.models.model import Model


def check_tensorrt(model: Model) -> None:
    """Raise ``AccelerationError`` where TensorRT is not to be had."""
    check_cuda(model, "tensorrt")
    if find_spec("torch_tensorrt") is None:
        raise AccelerationError("TensorRT is not installed: pip install torch-tensorrt, in the version of your torch")


def with_tensorrt(module: torch.nn.Module, _: Tensors) -> Function:
    """For ``tensorrt``: the first build takes minutes; engines are then kept on disk, by graph and weights.

    torch-tensorrt writes only engines whose weights are not immutable to the disk, which is why these are not.
    """
    import torch_tensorrt  # type: ignore[import-not-found]

    compiler: Any = torch_tensorrt
    return compiler.compile(
        module,
        ir="torch_compile",
        use_explicit_typing=True,
        immutable_weights=False,
        cache_built_engines=True,
        reuse_cached_engines=True,
        engine_cache_dir=str(default_folder() / "tensorrt"),
    )
