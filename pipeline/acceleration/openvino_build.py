"""Compiles one OpenVINO graph to a blob, in a process of its own.

A compiler that crashes then costs a message and not the picture, and a live stream keeps its interpreter to itself.
Run as a script: ``python -P openvino_build.py JOB_AS_JSON``, an object of what ``build`` takes, and ``background``. The
blob is tried once before it is written. Imports nothing of Vitrail or torch, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

# The picture on screen goes first.
_NICENESS, _NICENESS_OF_BACKGROUND = 5, 19


def build(graph: str, out: str, device: str, config: dict[str, str], shapes: list[list[int]] | None) -> None:
    """Compile ``graph`` for ``device`` and write the blob to ``out``.

    Args:
        shapes: of all inputs, in place of those that the graph was written for; None for these.
    """
    import numpy as np

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # see openvino_package.py
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    if shapes is not None:
        model.reshape({number: openvino.PartialShape(shape) for number, shape in enumerate(shapes)})
    compiled = core.compile_model(model, device, config)
    request = compiled.create_infer_request()
    # Open dimensions need some value: eight latent pixels, or 64 of a picture, suit every autoencoder.
    sizes = [[d.get_length() if d.is_static else 64 for d in port.partial_shape] for port in compiled.inputs]
    for shape, port in zip(sizes, compiled.inputs, strict=True):
        if port.partial_shape.is_dynamic:
            shape[0] = 1
    types = [port.element_type.to_dtype() for port in compiled.inputs]
    request.infer([np.zeros(shape, kind) for shape, kind in zip(sizes, types, strict=True)])
    Path(out).write_bytes(compiled.export_model().getvalue())


def step_back(background: bool) -> None:
    """Leave the processor to others; to ``background`` work only what nobody else wants, where the system has that."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS_OF_BACKGROUND if background else _NICENESS)
    if background and sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    step_back(job.pop("background"))
    build(**job)
