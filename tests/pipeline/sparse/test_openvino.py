"""Windows on OpenVINO: networks of all sizes come from one graph, and from another where the weights are others."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.backends import accelerate
from pipeline.backends.backend import Backend, Tensors
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino import backend as openvino_module
from pipeline.backends.openvino.compiler import Compiler, GaveWayError
from pipeline.backends.openvino.package import is_installed
from pipeline.models import load_model
from pipeline.models.model import Model
from pipeline.models.networks import Network
from pipeline.models.residency import DENOISER
from pipeline.sparse import trial as trial_module
from pipeline.sparse import unet as unet_module
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.costs import Costs
from pipeline.sparse.networks import WindowNetwork
from tests.checkpoints import write_model
from tests.pipeline.backends.calls import RecordingBackend
from tests.pipeline.sparse.bench import Bench, error, pixels
from tests.tiny_model import new_tiny_model, tiny_model, unet_of

pytestmark = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")

SQUARES = ((2, 2, 3, 3), (4, 9, 8, 14))


@pytest.fixture(autouse=True)
def _all_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (8, 16))
    monkeypatch.setattr(unet_module, "WIDE_HALO", 1)
    monkeypatch.setattr(trial_module, "TRIALS", 0)  # windows are taken to be right between zeros
    for name, value in (("FIRST", 50), ("FIRST_EVERY", 1), ("WORTH_BUILDING", 0.0)):
        monkeypatch.setattr(shapes_module, name, value)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that graphs are written of, in turn."""
    names: list[str] = []
    write = openvino_module.write_graph

    def counted(module: torch.nn.Module, *arguments: object) -> None:
        names.append(type(module).__name__)
        write(module, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(openvino_module, "write_graph", counted)
    return names


class Compared(RecordingBackend):
    """A backend beside the networks it has built: how far each of its answers is from theirs."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.compared: set[tuple[int, ...]] = set()
        self.farthest = 0.0

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        found = super().run(network, moving, staying)
        _, shape = self.calls[-1]
        if network.name == WindowNetwork.name and shape not in self.compared:
            self.compared.add(shape)
            expected = network.module()(**moving, **staying)
            assert found.keys() == expected.keys()
            for name, one in found.items():
                self.farthest = max(self.farthest, error(one, expected[name]))
        return found


def compared(model: Model, backend: Backend) -> Compared:
    """Windows of several sizes, each built and used."""
    found = Compared(backend)
    bench = Bench(model=model, backend=found)
    generator = torch.Generator().manual_seed(3)
    channels = model.unet.config["in_channels"]
    bench.before, bench.after = torch.randn(2, 1, channels, 32, 24, generator=generator).unbind()
    for _ in range(2):
        bench(bench.before, [None])
        backend.wait()
    for square in SQUARES:
        for _ in range(3):
            bench(bench.mixed(0, *square), [(pixels(*square),)])
            backend.wait()
    assert len(found.compared) > 1
    return found


def model_of(kind: str, folder: Path) -> Model:
    return load_model("embedded" if kind == "embedded" else str(write_model(folder, kind)), "cpu", "float32")


@pytest.mark.parametrize("kind", ["sd21", "embedded"])
def test_one_graph_does_for_windows_of_all_sizes(kind: str, tmp_path: Path, written: list[str]) -> None:
    model = replace(model_of(kind, tmp_path / "model"), bounds={})
    backend = accelerate(model, "openvino", EngineCache(tmp_path / "cache"))
    found = compared(model, backend)
    backend.close()
    assert written.count("WindowUNet") == 1
    assert written.count("RecordingUNet") == 1
    assert found.farthest < 1e-4


def test_the_next_process_finds_the_graph(tmp_path: Path, written: list[str]) -> None:
    for _ in range(2):
        backend = accelerate(tiny_model(), "openvino", EngineCache(tmp_path))
        assert compared(tiny_model(), backend).farthest < 1e-4
        backend.close()
        for file in tmp_path.glob("*.engine"):  # what was compiled is gone; graphs begin with their length
            if b"<?xml" not in file.read_bytes()[:80]:
                file.unlink()
    assert written.count("WindowUNet") == 1
    assert written.count("RecordingUNet") == 1


def test_a_graph_that_does_not_take_a_size_is_written_for_it(
    tmp_path: Path, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a picture's side is odd, an upsampling is written as the very number of pixels."""
    compile_, gave_way = Compiler.compile, []

    def refusing(self: Compiler, *arguments: Any, shapes: Any = None, **others: Any) -> bytes:
        if shapes is not None:
            raise RuntimeError("inconsistent shapes")
        if self._background and not gave_way:
            gave_way.append(True)
            raise GaveWayError("to be tried again")
        return compile_(self, *arguments, **others)

    monkeypatch.setattr(Compiler, "compile", refusing)
    backend = accelerate(tiny_model(), "openvino", EngineCache(tmp_path))
    found = compared(tiny_model(), backend)
    assert backend.news() == []
    backend.close()
    assert gave_way
    assert written.count("WindowUNet") == len(found.compared) + len(gave_way) == 3
    assert found.farthest < 1e-4


def test_other_weights_are_written_anew(tmp_path: Path, written: list[str]) -> None:
    model = new_tiny_model()
    backend = accelerate(model, "openvino", EngineCache(tmp_path))
    assert compared(model, backend).farthest < 1e-4
    with model.residency.changing(DENOISER), torch.no_grad():
        unet_of(model).conv_out.weight.mul_(-1)
    assert compared(model, backend).farthest < 1e-4
    backend.close()
    assert written.count("WindowUNet") == 2
