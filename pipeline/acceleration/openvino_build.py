"""Compiles one OpenVINO graph to a blob, in a process of its own.

A compiler that crashes then costs a message and not the picture, and a live stream keeps its interpreter to itself.
Run as a script: ``python -P openvino_build.py GRAPH.xml OUT.blob DEVICE CONFIG_AS_JSON NICENESS``. The blob is tried
once before it is written. Imports nothing of Vitrail or torch, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def build(graph: Path, out: Path, device: str, config: dict[str, str]) -> None:
    """Compile ``graph`` for ``device`` and write the blob to ``out``."""
    import numpy as np

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # see openvino_package.py
    import openvino

    compiled = openvino.Core().compile_model(graph, device, config)
    request = compiled.create_infer_request()
    # Open dimensions need some value: eight latent pixels, or 64 of a picture, suit every autoencoder.
    shapes = [[d.get_length() if d.is_static else 64 for d in port.partial_shape] for port in compiled.inputs]
    for shape, port in zip(shapes, compiled.inputs, strict=True):
        if port.partial_shape.is_dynamic:
            shape[0] = 1
    types = [port.element_type.to_dtype() for port in compiled.inputs]
    request.infer([np.zeros(shape, kind) for shape, kind in zip(shapes, types, strict=True)])
    out.write_bytes(compiled.export_model().getvalue())


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(int(sys.argv[5]))  # the picture on screen goes first
    build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
