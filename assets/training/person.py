"""``python -m assets.training.person FILE.tflite``: writes the person segmenter's weights for ``pipeline/masking``.

A TensorFlow Lite file is a FlatBuffer: tables that point to tables. The few fields that are needed are read here by
their numbers in TensorFlow Lite's ``schema.fbs``, so that no package of it is asked for.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.masking.segmenter import WEIGHTS, Segmenter

# Numbers of fields in schema.fbs.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_CODE_OLD_BUILTIN, _CODE_BUILTIN = 0, 3
_GRAPH_TENSORS, _GRAPH_OPERATORS = 0, 3
_TENSOR_SHAPE, _TENSOR_BUFFER = 0, 2
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_BUFFER_DATA = 0
# Numbers of operators.
_CONV, _DEPTHWISE, _DEQUANTIZE, _CUSTOM = 3, 4, 6, 32


class _Table:
    """A table of a FlatBuffer."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - struct.unpack_from("<i", data, place)[0]

    def number(self, field: int, format: str) -> int:
        """A field that is a number; 0 where it is not there."""
        at = self._at(field)
        return struct.unpack_from(format, self._data, at)[0] if at else 0

    def numbers(self, field: int, kind: str) -> np.ndarray:
        """A field that is a vector of numbers."""
        at = self._referred(field)
        if not at:
            return np.empty(0, kind)
        return np.frombuffer(self._data, kind, struct.unpack_from("<I", self._data, at)[0], at + 4)

    def tables(self, field: int) -> list[_Table]:
        """A field that is a vector of tables."""
        at = self._referred(field)
        count = struct.unpack_from("<I", self._data, at)[0] if at else 0
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [_Table(self._data, place + struct.unpack_from("<I", self._data, place)[0]) for place in places]

    def _at(self, field: int) -> int:
        at = 4 + 2 * field
        if at >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return 0
        offset = struct.unpack_from("<H", self._data, self._fields + at)[0]
        return self._place + offset if offset else 0

    def _referred(self, field: int) -> int:
        at = self._at(field)
        return at + struct.unpack_from("<I", self._data, at)[0] if at else 0


def read_weights(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Kernel (as torch lays it out) and bias of each convolution, float32, in the order in which they run."""
    data = path.read_bytes()
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    codes = [
        max(code.number(_CODE_OLD_BUILTIN, "<b"), code.number(_CODE_BUILTIN, "<i"))
        for code in model.tables(_MODEL_OPERATOR_CODES)
    ]
    graph, buffers = model.tables(_MODEL_SUBGRAPHS)[0], model.tables(_MODEL_BUFFERS)
    tensors = graph.tables(_GRAPH_TENSORS)
    stored: dict[int, int] = {}  # the tensor of half precision behind each that is converted to float32
    weights = []
    for operator in graph.tables(_GRAPH_OPERATORS):
        kind = codes[operator.number(_OPERATOR_CODE, "<I")]
        inputs = operator.numbers(_OPERATOR_INPUTS, "<i4")
        if kind == _DEQUANTIZE:
            stored[int(operator.numbers(_OPERATOR_OUTPUTS, "<i4")[0])] = int(inputs[0])
        if kind not in (_CONV, _DEPTHWISE, _CUSTOM):
            continue
        kernel, bias = (_values(tensors[stored[int(place)]], buffers) for place in inputs[1:])
        if kind == _DEPTHWISE:  # (1, h, w, out)
            kernel = kernel.transpose(3, 0, 1, 2)
        elif kind == _CONV:  # (out, h, w, in)
            kernel = kernel.transpose(0, 3, 1, 2)
        else:  # a transposed one, (1, 2, 2, in) with stride 2: four numbers for each pixel, which become four pixels
            kernel, bias = kernel.reshape(4, -1, 1, 1), bias.repeat(4)
        weights.append((torch.from_numpy(kernel.copy()), torch.from_numpy(bias.copy())))
    return weights


def _values(tensor: _Table, buffers: list[_Table]) -> np.ndarray:
    content = buffers[tensor.number(_TENSOR_BUFFER, "<I")].numbers(_BUFFER_DATA, "u1")
    return content.view("<f2").astype(np.float32).reshape(tensor.numbers(_TENSOR_SHAPE, "<i4"))


def converted(path: Path) -> Segmenter:
    """The segmenter with the weights of the file. Its convolutions are registered in the order in which they run."""
    segmenter = Segmenter()
    layers = [one for one in segmenter.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, read_weights(path), strict=True):
            if layer.bias is None or layer.weight.shape != kernel.shape:
                raise ValueError(f"{path} is another network: {tuple(kernel.shape)} for {layer}")
            layer.weight.copy_(kernel)
            layer.bias.copy_(bias)
    return segmenter


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 2
    weights = {name: one.half().contiguous() for name, one in converted(Path(arguments[0])).state_dict().items()}
    save_file(weights, WEIGHTS, {"license": "Apache-2.0", "source": "MediaPipe Selfie Segmentation (general), Google"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
