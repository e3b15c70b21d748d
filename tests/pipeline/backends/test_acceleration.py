"""Every backend gives the pictures of the model itself, whatever is changed while it runs; broken caches heal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from pipeline import GUIDANCE_KINDS, SOLVERS, Model, Stream, StreamConfig, load_model
from pipeline.backends import AccelerationError, accelerate
from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.backends.openvino import backend as openvino_module
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.engine import Engine as CompiledGraph
from pipeline.backends.openvino.graph import write_graph
from pipeline.backends.openvino.package import is_installed
from pipeline.backends.selection import _best
from pipeline.backends.spec import Spec
from pipeline.backends.weights_digest import weights_digest
from pipeline.models.networks import sharing_weights
from pipeline.models.residency import DENOISER
from tests.pipeline.pictures import psnr, sample_frame
from tests.tiny_model import new_tiny_model, tiny_model

openvino = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
BASE = StreamConfig(prompt="a watercolour", negative_prompt="a photo", steps=2, strength=0.7, guidance_scale=1.6)
CLOSE = 2e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    return EngineCache(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def fast(cache: EngineCache) -> Iterator[OpenVinoBackend]:
    """A tiny model on OpenVINO in float32, its engines for one and two rows of 8x8 latents built."""
    model = tiny_model(True)
    backend = accelerate(model, "openvino", cache)
    assert isinstance(backend, OpenVinoBackend)
    for steps in (1, 2):
        stream = Stream(model, replace(BASE, steps=steps), backend)
        stream(frames(1)[0])
        stream(frames(1)[0])
        backend.wait()
    yield backend
    backend.close()


@pytest.fixture
def built_only(fast: OpenVinoBackend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """``fast``, and nothing new is built: where rows are many, the engines that are there take turns."""
    monkeypatch.setattr(fast._pictures, "_order", lambda _: None)
    monkeypatch.setattr(fast._eager, "run", lambda *_: pytest.fail("the model itself was called"))
    return fast


def frames(count: int, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, generator=generator)


def pictures(
    model: Model, config: StreamConfig, clip: torch.Tensor, buffer: int = 1, backend: Backend | None = None
) -> torch.Tensor:
    stream = Stream(model, config, backend)
    return torch.cat([stream(group).image for group in clip.split(buffer)])


@openvino
@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), list(product([1, 2, 4], [1, 2])))
def test_every_stream_is_that_of_the_model_itself(built_only: Backend, steps: int, buffer: int, guidance: str) -> None:
    clip = frames(2 * buffer)
    # A backend does not see the solver: a third of them in each case crosses them with everything else.
    for solver in SOLVERS[(steps + buffer + GUIDANCE_KINDS.index(guidance)) % 3 :: 3]:
        config = replace(BASE, steps=steps, guidance=guidance, solver=solver)
        expected = pictures(tiny_model(True), config, clip, buffer)
        found = pictures(tiny_model(True), config, clip, buffer, built_only)
        assert torch.allclose(found, expected, atol=CLOSE), solver


@openvino
def test_no_thread_of_openvino_is_bound_to_a_core(fast: OpenVinoBackend) -> None:
    """It would wait for that core while another program has it."""
    for engine in fast._pictures.ready().values():
        assert isinstance(engine, CompiledGraph)
        assert engine._request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False


@openvino
def test_live_changes_need_no_other_engine(built_only: Backend) -> None:
    changes = [
        {"prompt": "a neon sign"},
        {"strength": 0.3},
        {"guidance": "self-negative", "guidance_scale": 1.2},
        {"guidance": "full", "negative_prompt": "grey"},
        {"solver": "dpmpp-2m", "seed": 5, "steps": 4},
        {"steps": 1},
    ]
    streams = [Stream(tiny_model(True), BASE, backend) for backend in (None, built_only)]
    config = BASE
    for change, clip in zip(changes, frames(5 * len(changes)).split(5), strict=True):
        config = replace(config, **change)
        for stream in streams:
            stream.configure(config)
        for frame in clip:
            expected, got = (stream(frame).image for stream in streams)
            assert torch.allclose(got, expected, atol=CLOSE), change


@openvino
def test_the_model_itself_serves_until_an_engine_is_there(cache: EngineCache) -> None:
    model = tiny_model(True)
    backend = accelerate(model, "openvino", cache)
    clip = frames(3, 72)
    expected = pictures(model, BASE, clip)
    stream = Stream(model, BASE, backend)
    assert torch.equal(stream(clip[0]).image, expected[:1])
    backend.wait()
    assert torch.allclose(torch.cat([stream(frame).image for frame in clip[1:]]), expected[1:], atol=CLOSE)
    backend.close()


@openvino
def test_another_number_of_rows_is_compiled_from_the_graph_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To trace the denoiser anew would hold up the stream, as a hand drags the slider of steps."""
    written: list[str] = []

    def noted(module: torch.nn.Module, spec: Spec, path: Path) -> None:
        written.append(spec.network)
        write_graph(module, spec, path)

    monkeypatch.setattr(openvino_module, "write_graph", noted)
    model, clip = tiny_model(True), frames(8)
    backend = accelerate(model, "openvino", EngineCache(tmp_path))
    backend.patient = True
    for steps in (1, 3, 2):
        config = replace(BASE, steps=steps)
        expected = pictures(model, config, clip)
        assert torch.allclose(pictures(model, config, clip, backend=backend), expected, atol=CLOSE)
    backend.close()
    assert sorted(written) == ["decoder", "denoiser", "encoder"]


@openvino
def test_a_patient_backend_draws_every_picture_by_the_same_engines(tmp_path: Path) -> None:
    """As a file is rendered: twice the same pictures, to the bit, however long engines take to build."""
    clip, runs = frames(4, 80), []
    for _ in range(2):
        model = tiny_model(True)
        backend = accelerate(model, "openvino", EngineCache(tmp_path))
        backend.patient = True
        eager = backend._eager.run  # type: ignore[attr-defined]
        backend._eager.run = lambda *_: pytest.fail("PyTorch drew a picture")  # type: ignore[attr-defined]
        stream = Stream(model, BASE, backend)
        runs.append(torch.cat([stream(frame).image for frame in clip[:2]]))
        stream.configure(replace(BASE, steps=3))
        runs[-1] = torch.cat([runs[-1], *(stream(frame).image for frame in clip[2:])])
        backend._eager.run = eager  # type: ignore[attr-defined]
        backend.close()
    assert torch.equal(*runs)


@openvino
def test_other_weights_are_seen_and_engines_are_found_again(fast: OpenVinoBackend, cache: EngineCache) -> None:
    before = set(cache._folder.glob("*.engine"))
    own = new_tiny_model(True)
    backend = accelerate(own, "openvino", cache)
    config, clip = replace(BASE, steps=1), frames(1)
    stream = Stream(own, config, backend)
    stream(clip)
    backend.wait()
    assert set(cache._folder.glob("*.engine")) == before, "engines of the same weights were built again"
    with own.residency.changing(DENOISER), torch.no_grad():
        for name, weight in own.unet.named_parameters():
            if name.endswith("attn2.to_v.weight"):
                weight.mul_(3)
    stream(clip)
    backend.wait()
    expected = pictures(own, config, clip)
    assert not torch.allclose(expected, pictures(tiny_model(True), config, clip, backend=fast), atol=10 * CLOSE)
    assert torch.allclose(stream(clip).image, expected, atol=CLOSE)
    backend.close()


@openvino
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "another version"])
def test_a_damaged_engine_counts_as_missing(cache: EngineCache, tmp_path: Path, damage: str) -> None:
    own = EngineCache(tmp_path)
    for file in cache._folder.iterdir():
        whole = file.read_bytes()
        content = {
            "truncated": whole[:-100],
            "flipped": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
            "empty": b"",
            "another version": b"vitrail engine 0\n" + whole[17:],
        }[damage]
        (tmp_path / file.name).write_bytes(content)
        assert own.load(file.stem) is None
        assert not (tmp_path / file.name).exists()


def test_a_cache_that_cannot_be_written_is_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    cache.store("key", b"content")
    assert cache.load("key") is None
    assert "cannot be kept" in caplog.text


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.store("key", b"content")
    assert cache.load("key") == b"content"
    assert cache.load("other") is None
    assert [file.name for file in tmp_path.iterdir()] == ["key.engine"]


def test_a_digest_knows_weights_and_structure() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    with torch.no_grad():
        other.bias[0] += 1e-3
    assert weights_digest(one) != weights_digest(other)
    assert weights_digest(torch.nn.ReLU()) != weights_digest(torch.nn.SiLU())


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_captured_functions_give_the_pictures_of_the_model(guidance: str) -> None:
    """Everything but the capture itself, which needs a GPU (see test_gpu.py)."""
    model = tiny_model(True)
    backend = GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    config, clip = replace(BASE, guidance=guidance), frames(4)
    stream, itself = Stream(model, config, backend), Stream(model, config)
    for index, frame in enumerate(clip):
        if index == 2:
            for one in (stream, itself):
                one.configure(replace(config, prompt="a neon sign", strength=0.4))
        assert torch.allclose(stream(frame).image, itself(frame).image, atol=1e-5), index
        backend.wait()
    assert {spec.network for spec in backend._pictures[0].ready()} == {"decoder", "denoiser", "encoder"}
    backend.close()


def test_a_copy_that_shares_weights_has_a_structure_of_its_own() -> None:
    model = tiny_model()
    copy = sharing_weights(model.unet)
    assert all(a is b for a, b in zip(model.unet.parameters(), copy.parameters(), strict=True))
    assert all(a is not b for a, b in zip(model.unet.modules(), copy.modules(), strict=True))


class FailsOnce:
    """An engine that works, and then does not."""

    def __init__(self, engine: object) -> None:
        self.engine, self.calls = engine, 0

    def __call__(self, *given: object) -> object:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("the device was lost\nand more")
        return self.engine(*given)  # type: ignore[operator]


def test_an_engine_that_fails_while_it_runs_hands_over_to_pytorch_and_says_so() -> None:
    model, clip = tiny_model(True), frames(4)
    backend = GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    stream, expected = Stream(model, BASE, backend), Stream(model, BASE)
    for frame in clip[:2]:
        stream(frame)
        expected(frame)
        backend.wait()
    (builder,) = backend._pictures
    builder._engines = {spec: FailsOnce(one) for spec, one in builder.ready().items()}  # type: ignore[misc]
    for frame in clip:
        torch.testing.assert_close(stream(frame).image, expected(frame).image, atol=1e-5, rtol=0)
    news = stream.news()
    assert len(news) == 3, "one sentence for each network"
    assert all("failed while it ran the" in one and one.endswith("the device was lost") for one in news)
    backend.close()


@openvino
def test_an_engine_that_fails_on_a_part_of_the_rows_hands_over_as_well(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until there is an engine for three rows, that for one takes them in turn."""
    model, clip = tiny_model(True), frames(4)
    backend = accelerate(model, "openvino", cache)
    assert isinstance(backend, OpenVinoBackend)
    pictures(model, replace(BASE, steps=1), clip[:1], backend=backend)
    backend.wait()
    builder = backend._pictures
    monkeypatch.setattr(builder, "_order", lambda _: None)
    config = replace(BASE, steps=3)
    stream, expected = Stream(model, config, backend), Stream(model, config)
    for number, frame in enumerate(clip):
        assert torch.allclose(stream(frame).image, expected(frame).image, atol=CLOSE)
        if number == 0:  # from now on calls are of three rows
            failing = {spec: FailsOnce(one) for spec, one in builder.ready().items() if spec.network == "denoiser"}
            builder._engines = {**builder.ready(), **failing}  # type: ignore[dict-item]
    (news,) = backend.news()
    assert news.startswith("openvino failed while it ran the denoiser")
    assert news.endswith("the device was lost")
    backend.close()


def test_a_lack_of_memory_is_no_fault_of_the_engine() -> None:
    model, clip = tiny_model(True), frames(1)
    backend = GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    stream = Stream(model, BASE, backend)
    stream(clip)
    backend.wait()

    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    (builder,) = backend._pictures
    builder._engines = dict.fromkeys(builder.ready(), full)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="out of memory"):
        stream(clip)
    assert backend.news() == []
    backend.close()


@openvino
def test_engines_of_the_embedded_model_paint_the_same_picture(tmp_path: Path) -> None:
    """In the number format that a user gets, against float32, on a real frame."""
    frame = sample_frame()
    config = StreamConfig(prompt="a watercolour painting", steps=1)
    expected = Stream(load_model(device="cpu", dtype="float32"), config)(frame).image
    model = load_model(device="cpu")
    backend = accelerate(model, "openvino", EngineCache(tmp_path))
    stream = Stream(model, config, backend)
    assert psnr(stream(frame).image, expected) >= 40  # PyTorch, in that number format
    backend.wait()
    assert isinstance(backend, OpenVinoBackend)
    assert {spec.network for spec in backend._pictures.ready()} == {"encoder", "denoiser", "decoder"}
    assert [spec.network for spec in backend._of_autoencoder.ready()] == ["decoder"], "in eight bits"
    assert psnr(stream(frame).image, expected) >= 40
    backend.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("warp", "must be one of auto, eager"),
        ("openvino-npu", "OpenVINO finds no NPU here"),
        ("cuda-graphs", "needs a CUDA device"),
        ("tensorrt", "must be one of auto, eager"),
    ],
)
@openvino
def test_what_cannot_be_had_is_said(wanted: str, words: str) -> None:
    with pytest.raises(AccelerationError, match=words):
        accelerate(tiny_model(), wanted)


def test_without_openvino_auto_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backends.openvino.backend.is_installed", lambda: False)
    backend = _best(tiny_model(), None)
    assert isinstance(backend, EagerBackend)
    assert "pip install 'vitrail[openvino]'" in backend.news()[0]
    assert backend.news() == []


@openvino
def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    """Importing it plainly writes a user's number into the home folder."""
    code = "import sys; from pipeline.backends.openvino.package import import_converter; import_converter(); "
    code += "sys.exit(any(name.startswith('openvino_telemetry.') for name in sys.modules))"
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)
    assert not list(tmp_path.iterdir())
