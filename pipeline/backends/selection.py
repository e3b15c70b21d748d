"""Which backend runs a model: the one that was asked for, or the best that is there."""

from __future__ import annotations

from collections.abc import Sequence
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
        return _graphs(model, wanted, cache)
    from pipeline.backends.openvino.backend import OpenVinoBackend
    from pipeline.backends.openvino.formats import Trials

    if model.device.type != "cpu":
        raise AccelerationError(
            f"OpenVINO takes its frames from the CPU, and the model is on {model.device}; choose the device 'cpu'"
        )
    return OpenVinoBackend(model, (wanted.partition("-")[2] or "cpu").upper(), cache, Trials())


def _graphs(model: Model, wanted: str, cache: EngineCache | None, notes: Sequence[str] = ()) -> Backend:
    from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend, check_cuda, compiled

    if wanted == "cuda-graphs":
        check_cuda(model, wanted)
        return GraphBackend(model, wanted, CUDA_GRAPHS, notes=notes)
    from pipeline.backends.inductor import Inductor, check_compiler

    check_compiler(model)
    inductor = Inductor(cache)
    # Compiling takes a minute, for which the graphs serve.
    first = [CUDA_GRAPHS] if model.device.type == "cuda" else []
    return GraphBackend(model, wanted, *first, compiled(inductor, inductor.stop), notes=notes)


def _best(model: Model, cache: EngineCache | None) -> Backend:
    best = {"cpu": "openvino", "cuda": "compile"}.get(model.device.type, "eager")
    try:
        return _named(model, best, cache)
    except AccelerationError as error:
        if best == "compile":
            return _graphs(
                model, "cuda-graphs", cache, (f"the model would run faster with compiled networks: {error}",)
            )
        from pipeline.backends.eager import EagerBackend

        return EagerBackend(model, notes=(f"the model runs without acceleration, at about half the speed: {error}",))
