"""Compiles OpenVINO graphs to blobs, one after the other, in a process of its own.

A compiler that crashes then costs a message and not the picture, and a live stream keeps its interpreter to itself.
Run as a script: ``python -P build.py [background]``. Each line of its standard input is a job, a JSON object
of what ``build`` takes; each is answered by a line, a JSON object that is empty, or has an ``error``. A blob is tried
once before it is written. Imports nothing of Vitrail or torch, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from openvino import Core, Model

# The picture on screen goes first.
_NICENESS, _NICENESS_OF_BACKGROUND = 5, 19
# With nothing to do for so long, the process ends: it holds some 200 MB.
_IDLE_SECONDS = 20.0


def build(graph: str, out: str, device: str, config: dict[str, str], shapes: list[list[int]] | None) -> None:
    """Compile ``graph`` for ``device`` and write the blob to ``out``.

    Args:
        shapes: of all inputs, in place of those that the graph was written for; None for these. A graph that is
            compiled for one size is going to be compiled for others too, and is read only once.
    """
    import numpy as np

    openvino = _openvino()
    if shapes is None:
        model = _core().read_model(graph)
    else:
        model = _read(graph).clone()
        model.reshape({number: openvino.PartialShape(shape) for number, shape in enumerate(shapes)})
    compiled = _core().compile_model(model, device, config)
    request = compiled.create_infer_request()
    # Open dimensions need some value: eight latent pixels, or 64 of a picture, suit every autoencoder.
    sizes = [[d.get_length() if d.is_static else 64 for d in port.partial_shape] for port in compiled.inputs]
    for shape, port in zip(sizes, compiled.inputs, strict=True):
        if port.partial_shape.is_dynamic:
            shape[0] = 1
    types = [port.element_type.to_dtype() for port in compiled.inputs]
    request.infer([np.zeros(shape, kind) for shape, kind in zip(sizes, types, strict=True)])
    Path(out).write_bytes(compiled.export_model().getvalue())


@functools.cache
def _openvino() -> ModuleType:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # see package.py
    import openvino

    return openvino


@functools.cache
def _core() -> Core:
    return _openvino().Core()


@functools.lru_cache(maxsize=4)  # the UNet's two, encoder and decoder
def _read(graph: str) -> Model:
    return _core().read_model(graph)


def step_back(background: bool) -> None:
    """Leave the processor to others; to ``background`` work only what nobody else wants, where the system has that."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS_OF_BACKGROUND if background else _NICENESS)
    if background and sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def serve(jobs: IO[str], answers: IO[str]) -> None:
    """Do what comes in, until there is no more, or nothing has come for a while."""
    waiting: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_follow, args=(jobs, waiting), daemon=True).start()
    with contextlib.suppress(queue.Empty):
        while (job := waiting.get(timeout=_IDLE_SECONDS)) is not None:
            answer = {}
            try:
                build(**json.loads(job))
            except Exception as error:  # noqa: BLE001 - a compiler may raise anything, and whoever asked is told
                lines = str(error).strip().splitlines()
                answer["error"] = lines[-1] if lines else type(error).__name__
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _follow(jobs: IO[str], waiting: queue.Queue[str | None]) -> None:
    for job in jobs:
        waiting.put(job)
    waiting.put(None)


if __name__ == "__main__":
    step_back("background" in sys.argv[1:])
    # What libraries print is not to be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
    # The other thread may be waiting for input: it cannot be joined, nor be ended inside of its call.
    os._exit(0)
