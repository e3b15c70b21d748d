"""Times a small network in each number format on this processor, in a process of its own.

Run as a script: ``python -P trial.py`` prints a JSON object of milliseconds by format. Imports nothing of Vitrail or
torch, so that it starts at once.

Times are processor time of one thread, in turns. The clock on the wall would say which format had the luck not to be
interrupted, as a stream that is running beside takes all cores. That one small network says which format a UNet and an
autoencoder are faster in, ``tests/benchmarks/formats.py`` measures.
"""

from __future__ import annotations

import json
import os
import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openvino import Model, Node

# By name: OpenVINO's precision, and whether convolutions are of 8-bit values.
FORMATS = {
    "float32": ("f32", False),
    "bfloat16": ("bf16", False),
    "float32 and int8": ("f32", True),
    "bfloat16 and int8": ("bf16", True),
}
# A UNet's middle: large enough that a format's arithmetic counts, small enough for a tenth of a second each.
_WIDTH, _SIDE, _BLOCKS = 128, 16, 2
_ROUNDS, _CALLS = 12, 4
_SECONDS = 0.6  # of processor time in all: where a format is emulated, fewer rounds do
_NICENESS = 5


def measure() -> dict[str, float]:
    """Milliseconds a call, by format; without those that cannot be had here."""
    import numpy as np

    openvino = _openvino()
    core, requests = openvino.Core(), {}
    picture = np.random.default_rng(0).standard_normal((1, _WIDTH, _SIDE, _SIDE)).astype(np.float32)
    for name, (precision, eight_bits) in FORMATS.items():
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        try:
            request = core.compile_model(_network(eight_bits), "CPU", settings).create_infer_request()
            request.set_input_tensor(0, openvino.Tensor(picture))
            request.infer()
        except RuntimeError:
            continue
        requests[name] = request
    spent, rounds = dict.fromkeys(requests, 0.0), 0
    while requests and rounds < _ROUNDS and sum(spent.values()) < _SECONDS:
        rounds += 1
        for name, request in requests.items():
            began = time.process_time()
            for _ in range(_CALLS):
                request.infer()
            spent[name] += time.process_time() - began
    return {name: 1e3 * seconds / (rounds * _CALLS) for name, seconds in spent.items()}


def _openvino() -> ModuleType:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # see package.py
    import openvino

    return openvino


def _network(eight_bits: bool) -> Model:
    """Residual blocks of convolutions, and a self-attention."""
    import numpy as np

    openvino = _openvino()
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    given = x = ops.parameter([1, _WIDTH, _SIDE, _SIDE], openvino.Type.f32)

    def convolved(x: Node) -> Node:
        weights = random.standard_normal((_WIDTH, _WIDTH, 3, 3), dtype=np.float32) / np.float32(3 * _WIDTH**0.5)
        kernel = ops.constant(weights)
        if eight_bits:
            steps = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
            whole = ops.constant(np.round(weights / steps).astype(np.int8))
            kernel = ops.multiply(ops.convert(whole, "f32"), ops.constant(steps))
            ends = np.float32(-4), np.float32(4)
            x = ops.fake_quantize(x, *ends, *ends, 256)
        return ops.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1])

    for _ in range(_BLOCKS):
        x = ops.add(x, convolved(ops.swish(convolved(ops.swish(x)))))
    columns = ops.reshape(x, np.array([1, _WIDTH, _SIDE * _SIDE]), False)
    rows = ops.transpose(columns, np.array([0, 2, 1]))
    alike = ops.multiply(ops.matmul(rows, columns, False, False), ops.constant(np.float32(_WIDTH**-0.5)))
    attended = ops.matmul(columns, ops.softmax(alike, -1), False, True)
    x = ops.add(x, ops.reshape(attended, np.array([1, _WIDTH, _SIDE, _SIDE]), False))
    return openvino.Model([ops.result(x)], [given], "trial")


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    print(json.dumps(measure()))  # noqa: T201
