"""A UNet that computes windows, against the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline import Stream, StreamConfig
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend, Capabilities, Tensors
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache
from pipeline.conditioning.conditions import Rows
from pipeline.denoiser import Denoiser
from pipeline.models import load_model
from pipeline.models.model import Model
from pipeline.models.networks import DenoiserNetwork, Network, sharing_weights
from pipeline.sparse import networks as networks_module
from pipeline.sparse import recording as recording_module
from pipeline.sparse import stopwatch as stopwatch_module
from pipeline.sparse import unet as unet_module
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.context_hooks import ContextHooks, Unsupported
from pipeline.sparse.costs import Costs
from pipeline.sparse.global_context import HIDDEN
from pipeline.sparse.networks import RecordingNetwork, SparseNetworks, WindowNetwork
from pipeline.sparse.rectangles import Change
from pipeline.sparse.unet import SparseUNet
from pipeline.sparse.window_shapes import FIRST_EVERY
from pipeline.sparse.window_unet import WindowUNet, context_by_name
from tests.pipeline.backends.calls import RecordingBackend, encoded
from tests.pipeline.sparse.test_windowed_autoencoder import given
from tests.tiny_model import tiny_model, unet_of

TIMESTEPS = (300, 700, 900, 100)


@pytest.fixture(autouse=True)
def _small_parts_whatever_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (4, 8, 12))


class Bench:
    """A sparse UNet beside the plain one."""

    def __init__(
        self,
        rows: int = 1,
        size: tuple[int, int] = (32, 24),
        model: Model | None = None,
        backend: RecordingBackend | None = None,
    ) -> None:
        self.model = model or tiny_model()
        self.backend = backend or RecordingBackend(EagerBackend(self.model))
        self.sparse = SparseUNet(SparseNetworks(self.model, self.backend))
        self._plain = EagerBackend(self.model)
        denoiser = Denoiser(self.model, self._plain)
        denoiser.set_prompts("a watercolour")
        self.timesteps = torch.tensor(TIMESTEPS[:rows])
        self.conditions = denoiser._conditioning.laid_out(Rows(((0, rows),), *size))
        generator = torch.Generator().manual_seed(1)
        self.before = torch.randn(rows, 4, *size, generator=generator)
        self.after = self.before + torch.randn(rows, 4, *size, generator=generator)

    @property
    def wholes(self) -> int:
        """How often the sparse UNet has had the plain one run on the whole."""
        return len(self.backend.shapes(DenoiserNetwork.name))

    @torch.inference_mode()
    def dense(self, latents: torch.Tensor) -> torch.Tensor:
        """What the plain UNet makes of them."""
        moving = {"rows": latents, "timesteps": self.timesteps}
        return self._plain.run(DenoiserNetwork(self.model), moving, self.conditions)["output"]

    def __call__(self, latents: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
        return self.sparse(latents, self.timesteps, self.conditions, changes)

    def mixed(self, row: int, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
        """The latents before, and those after in a rectangle of one row."""
        latents = self.before.clone()
        latents[row, :, top:bottom, left:right] = self.after[row, :, top:bottom, left:right]
        return latents


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pixels(*latent: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (8 * side for side in latent)
    return left, top, right, bottom


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root of the mean square, relative to that of ``b``."""
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


def test_inject_and_eject_are_exact_inverses() -> None:
    unet = sharing_weights(tiny_model().unet)
    rows, prompt = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    before = [dict(module.__dict__) for module in unet.modules()]
    call = partial(unet, rows, 500, prompt, return_dict=False)
    with torch.inference_mode():
        plain = call()[0]
        context = ContextHooks(unet)
        context.inject()
        context.inject()
        assert context.injected
        context.begin(None)
        assert torch.equal(call()[0], plain), "to record changes nothing"
        affine, *pairs = context.recorded()
        channels = sum(module.num_channels for module in unet.modules() if isinstance(module, nn.GroupNorm))
        assert affine.shape == (1, 2 * channels)
        assert len(pairs) == 2 * context.attentions > 0
        context.eject()
        context.eject()
        assert torch.equal(call()[0], plain)
    assert not context.injected
    for module, old in zip(unet.modules(), before, strict=True):
        assert module.__dict__.keys() == old.keys()
        assert all(module.__dict__[name] is value for name, value in old.items())


@pytest.mark.parametrize("size", [(32, 24), (13, 22)])
def test_everything_changed_with_fresh_statistics_equals_dense(size: tuple[int, int]) -> None:
    """A part that is all of the picture, told of the very same picture."""
    bench = Bench(size=size)
    bench(bench.after, [None])
    everything = pixels(0, 0, size[1], size[0])
    found = bench(bench.after, [(everything,)])
    assert bench.sparse.share == 1
    assert bench.wholes == 0, "it was a part"
    assert torch.allclose(found, bench.dense(bench.after), rtol=1e-5, atol=1e-5)


def test_of_a_model_whose_time_embedding_scales_the_norms_too() -> None:
    """The embedded model's blocks are of that kind, and its prompt is in the time embedding as well."""
    bench = Bench(model=load_model(device="cpu", dtype="float32"), size=(16, 24))
    bench.before, bench.after = (torch.randn(1, 32, 16, 24) for _ in (0, 1))
    bench(bench.after, [None])
    found = bench(bench.after, [(pixels(0, 0, 24, 16),)])
    assert bench.wholes == 0
    assert torch.allclose(found, bench.dense(bench.after), rtol=1e-4, atol=1e-4)


class SomeShapes(RecordingBackend):
    """A backend that has networks for windows of some shapes only, as one that is still building the others."""

    def __init__(self, model: Model, *shapes: tuple[int, int]) -> None:
        super().__init__(EagerBackend(model))
        self.name = "openvino"
        self.capabilities = Capabilities(
            any_shape=False, shares_weights=False, reads_in_place=True, open_sizes=True, windows=True
        )
        self.shapes_there = shapes
        self.asked: list[tuple[int, ...]] = []

    def ready(self, network: Network, moving: Tensors, staying: Tensors) -> bool:
        self.asked.append(tuple(moving["rows"].shape[2:]))
        return self.asked[-1] in self.shapes_there


def test_a_larger_window_stands_in_for_one_that_is_not_built() -> None:
    backend = SomeShapes(tiny_model(), (12, 12), (32, 24))
    bench = Bench(backend=backend)
    bench(bench.before, [None])
    small, wide = (2, 2, 3, 3), (2, 2, 8, 8)
    for _ in range(FIRST_EVERY):
        bench(bench.mixed(0, *small), [(pixels(*small),)])
    assert bench.sparse.share == 1, "nothing is built yet that is known to be there"
    for _ in range(FIRST_EVERY):
        bench(bench.mixed(0, *wide), [(pixels(*wide),)])
    assert bench.sparse.share == 12 * 12 / (32 * 24)
    bench.before = bench.mixed(0, *wide)
    backend.asked.clear()
    found = bench(bench.mixed(0, *small), [(pixels(*small),)])
    assert backend.asked[-1] == (12, 12)
    assert set(backend.asked[:-1]) == {(8, 8)}, "the right one has been ordered"
    assert bench.sparse.share == 12 * 12 / (32 * 24)
    assert not torch.equal(found, bench.dense(bench.before))
    backend.shapes_there = ()
    bench(bench.mixed(0, *small), [(pixels(*small),)])
    assert bench.sparse.share == 1, "given up"


def test_what_parts_need_to_know_is_recorded_once_there_is_a_network_for_it() -> None:
    """PyTorch would take several times as long as the whole that OpenVINO runs."""
    backend = SomeShapes(tiny_model())
    bench = Bench(backend=backend)
    bench(bench.before, [None])
    bench(bench.before, [(pixels(2, 2, 3, 3),)])
    assert bench.wholes == 2
    backend.shapes_there = ((32, 24),)
    bench(bench.before, [(pixels(2, 2, 3, 3),)])
    assert bench.wholes == 2
    assert backend.shapes(RecordingNetwork.name) == [(1, 4, 32, 24)]
    assert bench.sparse.memory > 0


def test_nothing_changed_calls_nothing(bench: Bench) -> None:
    first = bench(bench.before, [None])
    bench.backend.calls.clear()
    found = bench(bench.after, [()])
    assert torch.equal(found, first)
    assert bench.backend.calls == []
    assert bench.sparse.share == 0


def test_a_part_of_a_real_picture_is_nearly_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded model, at a corner, at a border and inside; statistics are those of the picture before."""
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (16, 24))
    model = load_model(device="cpu", dtype="float32")
    bench = Bench(size=(32, 40), model=model)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(1, 16, 32, 40, generator=generator)
    with torch.inference_mode():
        seen = [encoded(bench.backend, model, given((256, 320), seed)) for seed in (0, 1)]
    bench.before, bench.after = (torch.cat([0.2 * latent + 0.98 * noise, latent], dim=1) for latent in seen)
    bench(bench.before, [None])
    before = bench.dense(bench.before)
    for place in ((0, 0, 4, 4), (36, 28, 40, 32), (16, 12, 24, 18), (0, 14, 2, 20)):
        latents = bench.mixed(0, *place)
        found, expected = bench(latents, [(pixels(*place),)]), bench.dense(latents)
        assert 0 < bench.sparse.share < 1
        left, top, right, bottom = place
        inside = (..., slice(top, bottom), slice(left, right))
        assert error(found[inside], expected[inside]) < 0.15 * error(before[inside], expected[inside])
        bench.sparse.forget()
        bench(bench.before, [None])


def test_a_part_equals_the_whole_with_all_but_the_window_put_to_zero_before_each_convolution(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator: no window is cut, the convolutions just see nothing beyond it."""
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (12,))
    bench(bench.before, [None])
    assert bench.sparse._kept.context is not None
    known = [tensor.clone() for tensor in bench.sparse._kept.context._rows[0]]
    latents, target, view = bench.mixed(0, 10, 14, 14, 17), (9, 13, 15, 18), (6, 10, 18, 22)
    found = bench(latents, [(pixels(10, 14, 14, 17),)])
    whole = WindowNetwork(bench.model).module()

    def masked(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = inputs[0]
        level = 1 if x.shape[2] == 16 else 0
        left, top, right, bottom = (side >> level for side in view)
        mask = torch.zeros(x.shape[2:])
        mask[top:bottom, left:right] = 1
        return (x * mask,)

    for module in whole.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(masked)
    given = [known[0]]
    for keys, values in zip(known[1::2], known[2::2], strict=True):
        level = 0 if keys.shape[2] == 32 * 24 else 1
        here = torch.zeros(32 >> level, 24 >> level, dtype=torch.bool)
        left, top, right, bottom = (
            target[0] >> level,
            target[1] >> level,
            -(-target[2] >> level),
            -(-target[3] >> level),
        )
        here[top:bottom, left:right] = True
        bias = torch.cat([here.flatten(), ~here.flatten()]).view(1, 1, 1, -1) * HIDDEN
        given += [keys, values, bias]
    with torch.inference_mode():
        conditions = {name: tensor for name, tensor in bench.conditions.items() if WindowUNet.takes(name)}
        expected = whole(rows=latents, **conditions, **context_by_name(given))["output"]
    left, top, right, bottom = target
    inside = (..., slice(top, bottom), slice(left, right))
    assert torch.allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-5)
    outside = torch.ones(32, 24, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(found[..., outside], bench.dense(bench.before)[..., outside])


def test_rows_do_not_touch_each_other() -> None:
    bench = Bench(rows=3)
    first = bench(bench.before, [None] * 3)
    latents = bench.mixed(1, 4, 4, 8, 8)
    latents[0], latents[2] = bench.after[0], bench.after[2]
    found = bench(latents, [(), (pixels(4, 4, 8, 8),), None])
    expected = bench.dense(latents)
    assert torch.equal(found[0], first[0])
    assert torch.equal(found[1, :, 20:], first[1, :, 20:])
    assert not torch.equal(found[1], first[1])
    assert torch.allclose(found[2], expected[2], atol=1e-5)


def test_windows_of_several_rows_in_one_call_give_what_each_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four rows, at other places, at a corner and inside."""
    places = {0: (0, 0, 3, 3), 1: (9, 13, 11, 15), 3: (15, 19, 17, 21)}
    changes: list[Change] = [(pixels(*places[row]),) if row in places else () for row in range(4)]
    outputs, known, calls = [], [], []
    for together in (0.5, 9.0):
        monkeypatch.setattr(Costs, "share", lambda _, part, __, cost=together: cost if len(part) == 3 else 0.2)
        bench = Bench(rows=4)
        first = bench(bench.before, [None] * 4)
        latents = bench.before.clone()
        for row, place in places.items():
            latents[row] = bench.mixed(row, *place)[row]
        outputs.append(bench(latents, changes))
        assert bench.sparse._kept.context is not None
        known.append(bench.sparse._kept.context._tensors)
        calls.append([shape[0] for shape in bench.backend.shapes(WindowNetwork.name)])
        assert torch.equal(outputs[-1][2], first[2])
        assert not torch.equal(outputs[-1][3], first[3])
    assert calls == [[4], [1, 1, 1]]
    assert torch.allclose(*outputs, atol=1e-5)
    for one, other in zip(*known, strict=True):
        assert torch.allclose(one, other, atol=1e-5), "nothing is kept of what an idle row looked at"


def test_the_first_whole_call_of_a_run_is_recorded_and_few_after_it(bench: Bench) -> None:
    for _ in range(recording_module.RECORD_EVERY):
        bench(bench.before, [None])
    assert bench.wholes == recording_module.RECORD_EVERY - 1
    bench(bench.after, [None])
    assert bench.wholes == recording_module.RECORD_EVERY - 1, "recorded again"
    bench(bench.before, [None])
    whole = bench(bench.mixed(0, 2, 2, 4, 4), [(pixels(2, 2, 4, 4),)])
    assert bench.sparse.share == 1, "what parts need to know was of a picture before"
    assert torch.allclose(whole, bench.dense(bench.mixed(0, 2, 2, 4, 4)), atol=1e-5)


def test_to_make_the_module_of_windows_is_not_among_their_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a large UNet, whose weights are laid out then, would be taken to be slow in windows."""
    now, noted = [0.0], []

    def made(unet: torch.nn.Module) -> torch.nn.Module:
        now[0] += 100
        return sharing_weights(unet)

    bench(bench.before, [None])
    monkeypatch.setattr(networks_module, "sharing_weights", made)
    monkeypatch.setattr(stopwatch_module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Costs, "note", lambda *arguments: noted.append(arguments[-1]))
    bench(bench.mixed(0, 4, 8, 8, 12), [(pixels(4, 8, 8, 12),)])
    assert bench.sparse.share < 1
    assert now == [100]
    assert noted == [0]


def test_another_layout_or_other_weights_are_whole(bench: Bench) -> None:
    bench(bench.before, [None])
    bench.sparse.weights_changed()
    bench(bench.before, [(pixels(2, 2, 4, 4),)])
    assert bench.sparse.share == 1
    bench.sparse.forget()
    assert bench.sparse.memory == 0


def test_what_cannot_be_run_in_parts_says_so() -> None:
    unet = sharing_weights(unet_of(tiny_model()))
    assert unet.mid_block is not None
    unet.mid_block.add_module("odd", nn.BatchNorm2d(4))
    with pytest.raises(Unsupported, match="BatchNorm2d"):
        ContextHooks(unet)


def test_a_stream_on_openvino_is_that_on_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows go through networks that OpenVINO builds; until one is there, the whole is computed."""
    for name, value in (("FIRST", 50), ("FIRST_EVERY", 1), ("WORTH_BUILDING", 0.0)):
        monkeypatch.setattr(shapes_module, name, value)
    pytest.importorskip("openvino")
    model = tiny_model()
    config = StreamConfig(prompt="ink", steps=2, strength=0.6, sparse=True)
    generator = torch.Generator().manual_seed(2)
    frames = [torch.rand(3, 128, 128, generator=generator)]
    frames += [frames[0].clone() for _ in range(3)]
    for number, frame in enumerate(frames[1:]):
        frame[:, 48:64, 16 * number : 16 * number + 16] = 1
    pictures: dict[str, list[torch.Tensor]] = {}
    for wanted in ("openvino", "eager"):
        backend: Backend = accelerate(model, wanted, EngineCache(tmp_path))
        stream = Stream(model, config, backend)
        for frame in frames * 4:
            stream(frame)
            backend.wait()
        stream.reset()
        pictures[wanted] = [stream(frame).image for frame in frames]
        assert stream.sparse is not None
        assert stream.sparse.shares()["unet"] < 1
        assert stream.notes == []
        stream.close()
        backend.close()
    for one, other in zip(*pictures.values(), strict=True):
        assert (one - other).abs().max() < 2e-3
