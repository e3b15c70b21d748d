"""Which backend runs a model: the one that was asked for, or the best that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.backends.backend import AccelerationError, Backend
from pipeline.backends.engine_cache import EngineCache
from pipeline.config import ACCELERATIONS

if TYPE_CHECKING:
    from pipeline.models.model import Model


def accelerate(model: Model, wanted: str = "auto", cache: EngineCache | None = None) -> Backend:
    """A backend for ``model``. Its modules stay as they are, and several streams may share the backend.

    Args:
        model: as ``load_model`` gave it.
        wanted: one of ``ACCELERATIONS``; ``auto`` takes the best that is there, and its ``news`` say what is missing.
        cache: where engines are kept between two runs; by default the user's cache folder.

    Raises:
        AccelerationError: what is wanted is not to be had here; the message says why and what to do.
    """
    if wanted not in ACCELERATIONS:
        raise AccelerationError(f"the acceleration is {wanted!r}; it must be one of {', '.join(ACCELERATIONS)}")
    return _best(model, cache) if wanted == "auto" else _named(model, wanted, cache)


def _named(model: Model, wanted: str, cache: EngineCache | None) -> Backend:
    if wanted == "eager":
        from pipeline.backends.eager import EagerBackend

        return EagerBackend(model)
    if not wanted.startswith("openvino"):
        return _graphs(model, wanted)
    from pipeline.backends.openvino.backend import OpenVinoBackend
    from pipeline.backends.openvino.formats import Trials

    if model.device.type != "cpu":
        raise AccelerationError(
            f"OpenVINO takes its frames from the CPU, and the model is on {model.device}; choose the device 'cpu'"
        )
    return OpenVinoBackend(model, (wanted.partition("-")[2] or "cpu").upper(), cache, Trials())


def _graphs(model: Model, wanted: str) -> Backend:
    from pipeline.backends import graphs, inductor, tensorrt

    if wanted == "tensorrt":
        tensorrt.check_tensorrt(model)
        return graphs.GraphBackend(model, wanted, tensorrt.with_tensorrt, bakes_weights=True)
    if wanted == "compile":
        inductor.check_compiler(model)
        return graphs.GraphBackend(model, wanted, inductor.with_inductor)
    graphs.check_cuda(model, wanted)
    return graphs.GraphBackend(model, wanted, graphs.as_it_is)


def _best(model: Model, cache: EngineCache | None) -> Backend:
    if model.device.type != "cpu":
        # CUDA graphs and compilers are there to be asked for; none is the default before it has been measured on a GPU.
        return _named(model, "eager", cache)
    try:
        return _named(model, "openvino", cache)
    except AccelerationError as error:
        from pipeline.backends.eager import EagerBackend

        return EagerBackend(model, notes=(f"the model runs without acceleration, at about half the speed: {error}",))
