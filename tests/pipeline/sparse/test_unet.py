"""A UNet that computes windows, against the whole."""

from __future__ import annotations

import itertools
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
from pipeline.conditioning.attention import self_attentions
from pipeline.models import load_model
from pipeline.models.model import Model
from pipeline.models.networks import Network, sharing_weights
from pipeline.sparse import networks as networks_module
from pipeline.sparse import recording as recording_module
from pipeline.sparse import stopwatch as stopwatch_module
from pipeline.sparse import trial as trial_module
from pipeline.sparse import unet as unet_module
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.context_hooks import ContextHooks, Unsupported
from pipeline.sparse.costs import Costs
from pipeline.sparse.global_context import HIDDEN
from pipeline.sparse.networks import RecordingNetwork, WindowNetwork
from pipeline.sparse.rectangles import Change, grown, size_of
from pipeline.sparse.window_shapes import FIRST_EVERY
from pipeline.sparse.window_unet import WindowUNet
from tests.pipeline.backends.calls import RecordingBackend, encoded
from tests.pipeline.sparse.bench import Bench, error, pixels
from tests.pipeline.sparse.test_windowed_autoencoder import given
from tests.tiny_model import tiny_model, unet_of


@pytest.fixture(autouse=True)
def _small_parts_whatever_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (4, 8, 12))
    monkeypatch.setattr(unet_module, "WIDE_HALO", 1)
    monkeypatch.setattr(trial_module, "TRIALS", 0)  # windows are taken to be right between zeros


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_inject_and_eject_are_exact_inverses() -> None:
    unet = sharing_weights(tiny_model().unet)
    rows, prompt = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    before = [dict(module.__dict__) for module in unet.modules()]
    call = partial(unet, rows, 500, prompt, return_dict=False)
    with torch.inference_mode():
        plain = call()[0]
        for windows, surrounded in itertools.product((False, True), repeat=2):
            context = ContextHooks(unet)
            context.inject(windows=windows, surrounded=surrounded)
            context.inject(windows=windows, surrounded=surrounded)
            assert context.injected
            if not windows:
                context.begin({})
                assert torch.equal(call()[0], plain), "to record changes nothing"
                recorded = context.recorded()
                channels = sum(module.num_channels for module in unet.modules() if isinstance(module, nn.GroupNorm))
                assert recorded["affine"].shape == (1, 2 * channels)
                inputs = [name for name in recorded if name.startswith("inputs")]
                assert inputs == ["inputs_0", "inputs_1"] * surrounded
                assert sum(name.startswith("keys") for name in recorded) == len(self_attentions(unet)) > 0
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


@pytest.mark.parametrize("surrounded", [False, True])
def test_a_part_equals_the_whole_with_other_inputs_of_convolutions_outside_the_window(
    surrounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator: no window is cut. Beyond it, convolutions see zeros, or what they were given there before."""
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (12,))
    bench = Bench(surrounded=surrounded)
    bench(bench.before, [None])
    context = bench.sparse._kept.context
    assert context is not None
    known = {name: tensor.clone() for name, tensor in context._whole.items()}
    inputs = {name: tensor[..., 1:-1, 1:-1].clone() for name, tensor in context._inputs.items()}
    assert bool(inputs) == surrounded
    latents, view = bench.mixed(0, 11, 15, 13, 17), (6, 10, 18, 22)
    margin = bench.sparse.margin
    target = (11 - margin, 15 - margin, 13 + margin, 17 + margin)
    found = bench(latents, [(pixels(11, 15, 13, 17),)])
    assert bench.sparse.share == 12 * 12 / (32 * 24)
    whole = WindowNetwork(bench.model, surrounded=surrounded).module()
    assert isinstance(whole, WindowUNet)
    for level, layers in enumerate(whole._hooks._borders._layers):
        before: Sequence[torch.Tensor | None] = [None] * len(layers)
        if surrounded:
            before = inputs[f"inputs_{level}"].split([layer.in_channels for layer in layers], dim=1)
        for layer, piece in zip(layers, before, strict=True):
            hook = partial(_only_inside, [side >> level for side in view], piece)
            layer.register_forward_pre_hook(hook, prepend=True)
    given = {"affine": known["affine"]}
    for level, (name, tensor) in enumerate(inputs.items()):
        given[name.replace("inputs", "border")] = torch.zeros(*tensor.shape[:2], (32 >> level) + 2, (24 >> level) + 2)
    for number in range(len(known) // 2):
        level = 0 if known[f"keys_{number}"].shape[2] == 32 * 24 else 1
        here = torch.zeros(32 >> level, 24 >> level, dtype=torch.bool)
        left, top, right, bottom = (view if surrounded else target)[:4]
        right, bottom = -(-right >> level), -(-bottom >> level)
        here[top >> level : bottom, left >> level : right] = True
        bias = torch.cat([here.flatten(), ~here.flatten()]).view(1, 1, 1, -1) * HIDDEN
        given |= {name: known[name] for name in (f"keys_{number}", f"values_{number}")} | {f"seen_{number}": bias}
    with torch.inference_mode():
        conditions = {name: tensor for name, tensor in bench.conditions.items() if WindowUNet.takes(name)}
        expected = whole(rows=latents, **conditions, **given)["output"]
    left, top, right, bottom = target
    inside = (..., slice(top, bottom), slice(left, right))
    assert torch.allclose(found[inside], expected[inside], rtol=1e-4, atol=1e-5)
    outside = torch.ones(32, 24, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(found[..., outside], bench.dense(bench.before)[..., outside])


def _only_inside(
    view: Sequence[int], before: torch.Tensor | None, _: nn.Module, inputs: tuple[torch.Tensor]
) -> tuple[torch.Tensor]:
    """What a convolution is given inside ``view``; elsewhere ``before``, or zeros."""
    left, top, right, bottom = view
    mixed = torch.zeros_like(inputs[0]) if before is None else before.clone()
    mixed[..., top:bottom, left:right] = inputs[0][..., top:bottom, left:right]
    return (mixed,)


def test_several_windows_of_one_row_are_computed_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scattered changes: at corners and inside, in one row of two."""
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: 0.01 + math.prod(part) / math.prod(whole) / 1000)
    bench, alone = (Bench(rows=2, size=(32, 48), surrounded=True) for _ in (0, 1))
    places = [(1, 1, 3, 3), (21, 14, 23, 16), (44, 28, 46, 30)]
    latents = bench.before.clone()
    for left, top, right, bottom in places:
        inside = (1, slice(None), slice(top, bottom), slice(left, right))
        latents[inside] = bench.after[inside]
    for one in (bench, alone):
        one(one.before, [None, None])
    bench.backend.calls.clear()
    found = bench(latents, [(), tuple(pixels(*place) for place in places)])
    windows = [shape for name, shape in bench.backend.calls if name.startswith(WindowNetwork.name)]
    assert [shape[0] for shape in windows] == [3]
    for place in places:
        expected = alone(latents, [(), (pixels(*place),)])
        left, top, right, bottom = place
        inside = (..., slice(top, bottom), slice(left, right))
        # Alone, self-attention sees what the others have become before it.
        assert error(found[inside], expected[inside]) < 0.03
    assert torch.equal(found[0], bench.dense(bench.before)[0])


@pytest.mark.parametrize(
    ("places", "halo", "read"), [([(20, 20)], 4, 24), ([(4, 4), (4, 48), (48, 4), (48, 48)], 1, 16)]
)
def test_a_halo_is_as_wide_as_is_cheap(
    places: list[tuple[int, int]], halo: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows around scattered changes would be mostly halo."""
    monkeypatch.undo()
    bench = Bench(size=(64, 64))
    bench(bench.before, [None])
    change = [(left, top, left + 11, top + 11) for left, top in places]
    plan = bench.sparse._plan(tuple(pixels(*place) for place in change), (64, 64))
    assert plan is not None
    assert {one.writes for one in plan} == {grown(place, bench.sparse.margin, 64, 64) for place in change}
    for writes, reads in plan:
        assert size_of(reads) == (read, read)
        left, top, right, bottom = grown(writes, halo, 64, 64)
        assert reads[0] <= left
        assert reads[1] <= top
        assert right <= reads[2]
        assert bottom <= reads[3]


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
    for together in (0.1, 9.0):
        monkeypatch.setattr(Costs, "share", lambda _, part, __, cost=together: 0.2 if part[0] == 1 else cost)
        bench = Bench(rows=4)
        first = bench(bench.before, [None] * 4)
        latents = bench.before.clone()
        for row, place in places.items():
            latents[row] = bench.mixed(row, *place)[row]
        outputs.append(bench(latents, changes))
        assert bench.sparse._kept.context is not None
        context = bench.sparse._kept.context
        known.append([*context._whole.values(), *context._inputs.values()])
        calls.append([shape[0] for shape in bench.backend.shapes(WindowNetwork.name)])
        assert torch.equal(outputs[-1][2], first[2])
        assert not torch.equal(outputs[-1][3], first[3])
    assert calls == [[3], [1, 1, 1]]
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
