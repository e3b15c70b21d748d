"""Weights that change while engines are built, run and stored: nothing old is used, nothing wrong is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline import Model, Stream, StreamConfig
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.backends.openvino import backend as openvino_backend
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.package import is_installed
from pipeline.backends.weights_digest import WeightsDigests, weights_digest
from pipeline.models.adapters import Adapters
from pipeline.models.residency import DENOISER, PARTS
from tests.adapters import factors_of
from tests.tiny_model import new_tiny_model

openvino = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
CONFIG = StreamConfig(prompt="a", steps=1, solver="ddim", strength=0.7)
CLOSE = 2e-3


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for the UNet alone."""
    path = tmp_path_factory.mktemp("loras") / "a.safetensors"
    state = {}
    for name, (down, up) in factors_of(new_tiny_model(True).unet).items():
        state |= {f"unet.{name}.lora_A.weight": down.contiguous(), f"unet.{name}.lora_B.weight": up.contiguous()}
    save_file(state, path)
    return path


def frame(size: int = 64) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(0))


def backends(model: Model, cache: EngineCache) -> dict[str, Callable[[], Backend]]:
    return {
        "eager": lambda: accelerate(model, "eager"),
        "graphs": lambda: GraphBackend(model, "cuda-graphs", CUDA_GRAPHS),
        "openvino": lambda: accelerate(model, "openvino", cache),
    }


@openvino
def test_engines_that_are_built_while_a_lora_is_chosen_poison_no_cache(lora: Path, tmp_path: Path) -> None:
    """The slider for steps is dragged, a LoRA is chosen, and no frame comes until all is built."""
    cache, model = EngineCache(tmp_path), new_tiny_model(True)
    backend = accelerate(model, "openvino", cache)
    stream = Stream(model, CONFIG, backend)
    stream(frame())
    backend.wait()
    for steps in (2, 3, 4):
        stream.configure(replace(CONFIG, steps=steps))
        stream(frame())
    stream.configure(replace(CONFIG, steps=4, loras=str(lora)))
    backend.wait()
    backend.close()
    clean = new_tiny_model(True)
    for steps in (2, 3, 4):
        config = replace(CONFIG, steps=steps)
        again = accelerate(clean, "openvino", cache)
        found = Stream(clean, config, again)
        for _ in range(2):
            found(frame())
            again.wait()
        expected = Stream(clean, config)(frame()).image
        torch.testing.assert_close(found(frame()).image, expected, atol=CLOSE, rtol=0)
        again.close()


@openvino
def test_what_is_stored_is_known_by_the_weights_that_were_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are written to at the worst moment, and behind everybody's back: the key is that of the traced copy."""
    model, traced = new_tiny_model(True), []
    write = openvino_backend.write_graph

    def noted(module: torch.nn.Module, spec: object, path: Path) -> None:
        write(module, spec, path)  # type: ignore[arg-type]
        if spec.network == "denoiser":  # type: ignore[attr-defined]
            with torch.no_grad():
                next(model.unet.parameters()).data.add_(1.0)  # another library, which tells nobody

    monkeypatch.setattr(openvino_backend, "write_graph", noted)
    key = OpenVinoBackend._key

    def named(self: OpenVinoBackend, spec: object, bounds: object, digest: str) -> str:
        traced.append(digest)
        return key(self, spec, bounds, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenVinoBackend, "_key", named)
    before = weights_digest(model.unet)
    backend = accelerate(model, "openvino", EngineCache(tmp_path))
    Stream(model, CONFIG, backend)(frame())
    backend.wait()
    backend.close()
    assert traced.count(before) == 2, "looked for, and stored, under the digest of what was traced"
    assert weights_digest(model.unet) != before


@openvino
@pytest.mark.parametrize("kind", ["eager", "graphs", "openvino"])
def test_two_streams_in_turn_both_follow_a_lora(kind: str, lora: Path, tmp_path: Path) -> None:
    model = new_tiny_model(True)
    backend = backends(model, EngineCache(tmp_path))[kind]()
    streams = [Stream(model, replace(CONFIG, prompt=prompt), backend) for prompt in ("a", "b")]
    for _ in range(2):
        for stream in streams:
            stream(frame())
            backend.wait()
    plain = [stream(frame()).image for stream in streams]
    streams[0].configure(replace(streams[0].config, loras=str(lora)))
    streams[1].configure(replace(streams[1].config, loras=str(lora)))
    for _ in range(2):
        for stream in streams:
            stream(frame())
            backend.wait()
    for stream, before in zip(streams, plain, strict=True):
        found = stream(frame()).image
        assert not torch.allclose(found, before, atol=10 * CLOSE)
        torch.testing.assert_close(found, Stream(model, stream.config)(frame()).image, atol=CLOSE, rtol=0)
    backend.close()


@openvino
@pytest.mark.parametrize("kind", ["graphs", "openvino"])
def test_a_lora_leaves_the_engines_of_the_autoencoder(kind: str, lora: Path, tmp_path: Path) -> None:
    """And those of backends that run on the model's own weights see it without being built again."""
    model = new_tiny_model(True)
    backend = backends(model, EngineCache(tmp_path))[kind]()
    stream = Stream(model, CONFIG, backend)
    stream(frame())
    backend.wait()
    (pictures,) = [backend._pictures] if kind == "openvino" else backend._pictures  # type: ignore[attr-defined]
    before = pictures.ready()
    assert {spec.network for spec in before} == {"encoder", "denoiser", "decoder"}
    for step in range(20):
        stream.configure(replace(CONFIG, loras=f"{lora}:{(step + 1) / 10}"))
        stream(frame())
    now = pictures.ready()
    kept = {spec: engine for spec, engine in now.items() if before.get(spec) is engine}
    assert {spec.network for spec in kept} >= {"encoder", "decoder"}
    assert kind != "graphs" or kept == before
    expected = Stream(model, stream.config)(frame()).image
    torch.testing.assert_close(stream(frame()).image, expected, atol=CLOSE, rtol=0)
    backend.close()


@openvino
def test_two_models_may_build_at_once(tmp_path: Path) -> None:
    """Traces of two backends at a time would empty the registry of TorchScript under each other."""
    models = [new_tiny_model(seen) for seen in (True, False)]
    built = [accelerate(model, "openvino", EngineCache(tmp_path / str(n))) for n, model in enumerate(models)]
    start = threading.Barrier(2)

    def stream(model: Model, backend: Backend) -> None:
        start.wait(30)
        for size in (64, 72, 80):
            Stream(model, CONFIG, backend)(frame(size))
        backend.wait()

    threads = [threading.Thread(target=stream, args=pair) for pair in zip(models, built, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for backend in built:
        assert backend.news() == []
        backend.close()


def test_whoever_listens_is_told_before_the_first_weight_is_another() -> None:
    model, seen = new_tiny_model(), []
    weight = next(model.unet.parameters())
    before = weight.clone()

    class Listener:
        def changed(self, part: str, *, moved: bool) -> None:
            seen.append((part, moved, torch.equal(weight, before)))

    listener, gone = Listener(), Listener()
    model.residency.subscribe(listener)
    model.residency.subscribe(gone)
    del gone
    with model.residency.changing(DENOISER), torch.no_grad():
        weight.add_(1)
    assert seen == [(DENOISER, False, True)]
    assert [model.residency.revision(part) for part in PARTS] == [1, 0, 0, 0]


def test_a_digest_is_computed_anew_once_a_weight_was_written_to() -> None:
    layer, digests = torch.nn.Linear(2, 2), WeightsDigests()
    first = digests.of(layer)
    assert first == digests.of(layer) == weights_digest(layer)
    with torch.inference_mode():
        layer.weight.add_(1)
    assert digests.of(layer) == weights_digest(layer) != first


def test_the_last_stream_to_close_leaves_the_model_as_it_was_loaded(lora: Path) -> None:
    model = new_tiny_model(True)
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    one, two = (Stream(model, replace(CONFIG, loras=str(lora))) for _ in range(2))
    one.close()
    assert model.adapters.in_denoiser, "another stream is still on it"
    two.close()
    assert all(torch.equal(weight, before[name]) for name, weight in model.unet.state_dict().items())


def test_a_part_that_a_model_does_not_have_is_refused() -> None:
    """Nobody would be told, and engines would go on with the old weights."""
    with pytest.raises(ValueError, match="a model has no part 'unet'; its parts are denoiser, autoencoder"):
        new_tiny_model().residency.changing("unet").__enter__()


def test_a_lora_that_memory_was_too_short_for_leaves_no_trace(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_tiny_model(True)
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    stream = Stream(model, CONFIG)
    expected, written = stream(frame()).image, []
    write = Adapters._write

    def short(self: Adapters, *given: object) -> None:
        written.append(1)
        if len(written) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        write(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Adapters, "_write", short)
    with pytest.raises(torch.OutOfMemoryError):
        stream.configure(replace(CONFIG, loras=str(lora)))
    assert torch.equal(stream(frame()).image, expected)
    assert all(torch.equal(weight, before[name]) for name, weight in model.unet.state_dict().items())
    stream.configure(replace(CONFIG, loras=str(lora)))
    found = stream(frame()).image
    torch.testing.assert_close(found, Stream(model, stream.config)(frame()).image, atol=1e-6, rtol=0)
    assert not torch.allclose(found, expected, atol=1e-3)
