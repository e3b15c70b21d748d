"""Keeping the shape in a stream: as sequential denoising, live, with everything else, and free while it is off."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.adapter import T2IAdapter
from diffusers.models.controlnets.controlnet import ControlNetModel

from pipeline import GUIDANCE_KINDS, Model, ModelError, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Tensors
from pipeline.backends.eager import EagerBackend
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.backends.openvino.package import is_installed
from pipeline.config import MEMORY_MODES
from pipeline.hints.hints import Hints as HintMaker
from pipeline.models.networks import Network
from tests.adapters import write_lora
from tests.controls import new_adapter, new_controlnet, write_control
from tests.pipeline.reference import Reference
from tests.pipeline.test_stream import BASE, CLOSE, frames
from tests.tiny_model import new_tiny_model, tiny_model, unet_of

openvino = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Controls for the tiny models, as modules and as folders, by name."""

    modules: dict[str, T2IAdapter | ControlNetModel]
    folders: dict[str, Path]

    def kept(self, *wanted: tuple[str, float, str]) -> str:
        """The setting for these (hint, weight, control)."""
        return "; ".join(f"{hint}:{weight} @ {self.folders[name]}" for hint, weight, name in wanted)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    unet = unet_of(tiny_model())
    modules: dict[str, T2IAdapter | ControlNetModel] = {
        "adapter": new_adapter(unet, seed=1),
        "grey adapter": new_adapter(unet, seed=2, channels=1),
        "controlnet": new_controlnet(unet, seed=3),
        "controlnet b": new_controlnet(unet, seed=4),
    }
    folder = tmp_path_factory.mktemp("controls")
    return Shelf(modules, {name: write_control(folder / name, module) for name, module in modules.items()})


KEPT: dict[str, tuple[tuple[str, float, str], ...]] = {
    "adapter": (("canny", 0.8, "adapter"),),
    "adapters": (("canny", 0.8, "adapter"), ("sketch", 0.5, "grey adapter")),
    "controlnet": (("canny", 0.8, "controlnet"),),
    "controlnets": (("canny", 0.8, "controlnet"), ("sketch", 0.5, "controlnet b")),
    "one for two hints": (("canny", 0.8, "controlnet"), ("sketch", 0.5, "controlnet")),
    "both": (("canny", 0.8, "controlnet"), ("sketch", 1.0, "adapter")),
}


class Shaped(Reference):
    """Sequential denoising of a frame under its hints, through diffusers' own modules."""

    def __init__(self, model: Model, config: StreamConfig, shelf: Shelf, *kept: tuple[str, float, str]) -> None:
        super().__init__(model, config)
        self._kept = [(hint, weight * config.shape_strength, shelf.modules[name]) for hint, weight, name in kept]
        self._hints: Mapping[str, torch.Tensor] = {}

    def of(self, frame: torch.Tensor, hints: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(3, H, W) and the hints of it, (3, H, W) each."""
        self._hints = hints
        return self(frame)

    def shown(self, x: torch.Tensor, timestep: float, prompt: torch.Tensor) -> dict[str, Any]:
        features: list[torch.Tensor] = []
        residuals: list[torch.Tensor] = []
        for hint, weight, module in self._kept:
            picture = self._hints[hint][None]
            if isinstance(module, T2IAdapter):
                grey = module.config["in_channels"] == 1
                found = [weight * one for one in module(picture.mean(1, keepdim=True) if grey else picture)]
                features = [a + b for a, b in zip(features, found, strict=True)] if features else found
            else:
                down, middle = module(x, timestep, prompt, picture, weight, return_dict=False)
                found = [*down, middle]
                residuals = [a + b for a, b in zip(residuals, found, strict=True)] if residuals else found
        return {
            "down_intrablock_additional_residuals": features or None,
            "down_block_additional_residuals": residuals[:-1] or None,
            "mid_block_additional_residual": residuals[-1] if residuals else None,
        }


def hints_of(count: int, side: int = 64) -> dict[str, torch.Tensor]:
    return {"canny": frames(count, side, side, seed=7), "sketch": frames(count, side, side, seed=8)}


def at(hints: Mapping[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    return {name: hint[index] for name, hint in hints.items()}


def streamed(stream: Stream, clip: torch.Tensor, hints: Mapping[str, torch.Tensor], first: int = 0) -> list[Any]:
    """The outputs of ``clip``, whose frames are numbered from ``first``, the tail not flushed."""
    group = range(len(clip))
    return [stream(clip[k], tags=[first + k], hints=at(hints, k)) for k in group]


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize("steps", [1, 4])
def test_the_stream_batch_equals_one_frame_after_the_other(steps: int, guidance: str, shelf: Shelf) -> None:
    clip, hints = frames(6, 64, 64), hints_of(6)
    for number, (name, kept) in enumerate(KEPT.items()):
        model = tiny_model(sees_input=(steps + number) % 2 == 0)
        config = replace(BASE, steps=steps, guidance=guidance, solver=("lcm", "dpmpp-2m", "ddim")[number % 3])
        config = replace(config, keep_shape=shelf.kept(*kept), shape_strength=1.25)
        outputs = streamed(Stream(model, config), clip, hints)
        reference = Shaped(model, config, shelf, *kept)
        (tag,) = outputs[-1].tags
        assert tag == 6 - steps
        assert torch.allclose(outputs[-1].image[0], reference.of(clip[tag], at(hints, tag)), atol=CLOSE), name
        plain = Reference(model, config)(clip[tag])
        assert not torch.allclose(outputs[-1].image[0], plain, atol=0.01), f"{name} changes nothing"


def test_several_frames_at_a_time_each_have_their_own(shelf: Shelf) -> None:
    model, clip, hints, kept = tiny_model(), frames(6, 64, 48), hints_of(6), KEPT["both"]
    hints = {name: hint[..., :48] for name, hint in hints.items()}
    config = replace(BASE, steps=2, guidance="full", keep_shape=shelf.kept(*kept))
    stream = Stream(model, config)
    outputs = [stream(clip[k : k + 3], hints={n: h[k : k + 3] for n, h in hints.items()}) for k in (0, 3, 3)]
    reference = Shaped(model, config, shelf, *kept)
    for image, index in zip(outputs[-1].image, (3, 4, 5), strict=True):
        assert torch.allclose(image, reference.of(clip[index], at(hints, index)), atol=CLOSE)


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an adapter comes": ("", "adapter", {}),
    "an adapter goes": ("adapter", "", {}),
    "a ControlNet comes": ("", "controlnet", {}),
    "a ControlNet goes": ("controlnets", "controlnet", {}),
    "the last ControlNet goes": ("controlnet", "", {}),
    "one becomes the other": ("adapter", "controlnet", {}),
    "another comes beside": ("controlnet", "both", {}),
    "stronger": ("both", "both", {"shape_strength": 1.6}),
    "off": ("both", "both", {"shape_strength": 0.0}),
    "prompt": ("both", "both", {"prompt": "a neon sign"}),
    "guidance": ("both", "both", {"guidance": "full", "negative_prompt": "grey"}),
    "steps": ("both", "both", {"steps": 4}),
    "everything": ("controlnets", "adapters", {"prompt": "x", "steps": 2, "solver": "ddim", "guidance": "full"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_equal_again_after_each_live_change(change: str, shelf: Shelf) -> None:
    model, clip, hints = tiny_model(True), frames(12, 64, 64), hints_of(12)
    old, new, settings = CHANGES[change]
    kept = {name: KEPT[name] if name else () for name in (old, new)}
    before = replace(BASE, keep_shape=shelf.kept(*kept[old]))
    after = replace(before, keep_shape=shelf.kept(*kept[new]), **settings)
    stream = Stream(model, before)
    streamed(stream, clip[:4], {name: hint[:4] for name, hint in hints.items()})
    stream.prepare(after)
    stream.configure(after)
    outputs = streamed(stream, clip[4:], {name: hint[4:] for name, hint in hints.items()}, first=4) + stream.flush()
    reference, was = Shaped(model, after, shelf, *kept[new]), Shaped(model, before, shelf, *kept[old])
    settled = {output.tags[0]: output.image[0] for output in outputs if output.tags[0] >= 4}
    assert set(settled) == set(range(4, 12))
    for tag, image in settled.items():
        assert torch.allclose(image, reference.of(clip[tag], at(hints, tag)), atol=CLOSE), tag
        assert not torch.allclose(image, was.of(clip[tag], at(hints, tag)), atol=10 * CLOSE), "nothing has changed"
    assert all(bool(output.image.isfinite().all()) for output in outputs)


class Counting(EagerBackend):
    """Counts the calls of each network, and the rows of the last."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.calls: Counter[str] = Counter()
        self.rows: dict[str, int] = {}

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        kind = type(network).__name__
        self.calls[kind] += 1
        self.rows[kind] = len(next(iter(moving.values())))
        return super().run(network, moving, staying)


def test_what_is_off_is_not_called_and_what_is_on_no_more_than_it_must(shelf: Shelf) -> None:
    model, clip, hints = tiny_model(), frames(8, 64, 64), hints_of(8)
    plain = {"EncoderNetwork": 1, "DenoiserNetwork": 1, "DecoderNetwork": 1}
    adapter, controlnet = {"AdapterNetwork": 1}, {"HintNetwork": 1, "ControlNetwork": 1}
    cases = [
        ("", 1.0, {}),
        (shelf.kept(*KEPT["both"]), 0.0, {}),
        (shelf.kept(("canny", 0.0, "controlnet")), 1.0, {}),
        (shelf.kept(*KEPT["adapter"]), 1.0, adapter),
        (shelf.kept(*KEPT["controlnet"]), 1.0, controlnet),
        (shelf.kept(*KEPT["both"]), 1.0, adapter | controlnet),
    ]
    backend = Counting(model)
    stream = Stream(model, replace(BASE, steps=4, guidance="full"), backend)
    for kept, strength, expected in cases:
        stream.configure(replace(stream.config, keep_shape=kept, shape_strength=strength))
        stream(clip[0], hints=at(hints, 0))
        backend.calls.clear()
        stream(clip[1], hints=at(hints, 1))
        assert backend.calls == plain | expected, (kept, strength)
    assert backend.rows["AdapterNetwork"] == backend.rows["HintNetwork"] == 1
    assert backend.rows["ControlNetwork"] == backend.rows["DenoiserNetwork"] == 8


def test_a_prompt_is_projected_once_for_a_controlnet(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.denoiser as denoiser

    projected: list[torch.nn.Module] = []

    def counted(network: torch.nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
        projected.append(network)
        return own(network, tokens)

    own = denoiser.project
    monkeypatch.setattr(denoiser, "project", counted)
    stream = Stream(tiny_model(), replace(BASE, keep_shape=shelf.kept(*KEPT["controlnet"]), guidance="none"))
    clip, hints = frames(6, 64, 64), hints_of(6)
    streamed(stream, clip, hints)
    assert len(projected) == 1
    stream.configure(replace(stream.config, keep_shape=shelf.kept(("canny", 0.3, "controlnet")), seed=4))
    streamed(stream, clip, hints)
    assert len(projected) == 1, "another weight is no other prompt"
    stream.configure(replace(stream.config, prompt="another", guidance="full"))
    streamed(stream, clip, hints)
    assert len(projected) == 3


def test_of_words_alone_a_picture_keeps_the_shape_of_the_hint(shelf: Shelf) -> None:
    model, clip, hints, kept = tiny_model(), frames(4, 64, 64), hints_of(4), KEPT["both"]
    config = replace(BASE, text_to_image=True, seed_travel="hold", keep_shape=shelf.kept(*kept), steps=2)
    one, other = (streamed(Stream(model, config), clip, shown)[-1].image for shown in (hints, hints_of(1) | {
        name: hint.flip(0) for name, hint in hints.items()
    }))  # fmt: skip
    assert not torch.allclose(one, other, atol=10 * CLOSE)


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_in_little_memory_it_is_the_same_picture(mode: str, shelf: Shelf) -> None:
    model, clip, hints = new_tiny_model(), frames(4, 64, 64), hints_of(4)
    config = replace(BASE, steps=2, guidance="full", keep_shape=shelf.kept(*KEPT["both"]))
    expected = streamed(Stream(model, config), clip, hints)[-1].image
    stream = Stream(model, replace(config, keep_shape=""))
    stream.save_memory(mode)
    streamed(stream, clip, {})
    stream.configure(config)
    torch.testing.assert_close(streamed(stream, clip, hints)[-1].image, expected, atol=CLOSE, rtol=0)
    stream.save_memory("full")
    torch.testing.assert_close(streamed(stream, clip, hints)[-1].image, expected, atol=CLOSE, rtol=0)
    stream.save_memory(mode)  # and with the controls there already
    torch.testing.assert_close(streamed(stream, clip, hints)[-1].image, expected, atol=CLOSE, rtol=0)


def backends(model: Model, folder: Path) -> Iterator[Any]:
    yield GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    if is_installed():
        yield accelerate(model, "openvino", EngineCache(folder))


@openvino
@pytest.mark.parametrize("kind", ["adapters", "controlnets", "both"])
def test_every_backend_gives_the_pictures_of_the_model_itself(kind: str, shelf: Shelf, tmp_path: Path) -> None:
    model, clip, hints = new_tiny_model(), frames(8, 64, 64), hints_of(8)
    config = replace(BASE, steps=2, guidance="full", keep_shape=shelf.kept(*KEPT[kind]))
    expected = streamed(Stream(model, config), clip, hints)[-1].image
    for backend in backends(model, tmp_path):
        stream = Stream(model, config, backend)
        for _ in range(2):
            streamed(stream, clip, hints)
            backend.wait()
        found = streamed(stream, clip, hints)[-1].image
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
        assert backend.news() == []
        again = Stream(model, config, backend)  # its slots are filled on the engines of the ticks
        torch.testing.assert_close(streamed(again, clip, hints)[-1].image, expected, atol=2e-3, rtol=0)
        # Other weights, and a network gone and come again: no old engine is used.
        stream.configure(replace(config, keep_shape=""))
        again.close()
        streamed(stream, clip, hints)
        stream.configure(config)
        torch.testing.assert_close(streamed(stream, clip, hints)[-1].image, expected, atol=2e-3, rtol=0)
        backend.close()


def test_with_a_lora_it_is_that_of_the_changed_model(shelf: Shelf, tmp_path: Path) -> None:
    model, clip, hints, kept = new_tiny_model(), frames(5, 64, 64), hints_of(5), KEPT["both"]
    write_lora(tmp_path / "a.safetensors", model, "peft")
    config = replace(BASE, steps=2, keep_shape=shelf.kept(*kept))
    stream = Stream(model, config)
    without = streamed(stream, clip, hints)[-1]
    stream.configure(replace(config, loras=str(tmp_path / "a.safetensors")))
    found = streamed(stream, clip, hints)[-1]
    reference = Shaped(model, stream.config, shelf, *kept)
    assert torch.allclose(found.image[0], reference.of(clip[3], at(hints, 3)), atol=CLOSE)
    assert not torch.allclose(found.image, without.image, atol=10 * CLOSE)


class _Flipping:
    """Makes hints that change elsewhere than their frames."""

    def __call__(self, names: Iterable[str], frames: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: frames.flip(1 if name == "canny" else 2) for name in names}

    def reset(self) -> None: ...


@pytest.mark.parametrize("given", [True, False])
def test_sparse_inference_computes_the_whole_and_is_the_same(given: bool, shelf: Shelf) -> None:
    """Also where a given hint changes and the frame does not; hints that are made of the frames stay as these do.

    And where the hint changes elsewhere than the frame.
    """
    model, kept = tiny_model(), KEPT["both"]
    clip = frames(1, 128, 128).repeat(12, 1, 1, 1)
    clip[4:, :, 32:48, 32:48] = 0.1
    hints = hints_of(12, 128) if given else {"canny": clip.flip(1), "sketch": clip.flip(2)}
    backend = Counting(model)
    stream = Stream(model, replace(BASE, steps=2, keep_shape=shelf.kept(*kept), sparse=True), backend)
    stream._shape._make = _Flipping()
    outputs = [stream(clip[k], hints=at(hints, k) if given else None) for k in range(12)]
    reference = Shaped(model, stream.config, shelf, *kept)
    for index in (2, 4, 5, 9):
        output = outputs[index + 1]
        assert output.tags == (index,)
        assert torch.allclose(output.image[0], reference.of(clip[index], at(hints, index)), atol=CLOSE), index
    backend.calls.clear()
    stream(clip[11], hints=at(hints, 10) if given else None)
    assert bool(backend.calls["ControlNetwork"]) == given, "a step is computed of what stands still"


def test_the_similarity_filter_still_spares_its_calls(shelf: Shelf) -> None:
    model, hints = tiny_model(), hints_of(1)
    still = frames(1, 64, 64).repeat(30, 1, 1, 1)
    config = replace(BASE, steps=2, keep_shape=shelf.kept(*KEPT["both"]), similarity_filter=True)
    backend = Counting(model)
    stream = Stream(model, config, backend)
    outputs = [stream(frame, hints=at(hints, 0)) for frame in still]
    assert sum(output.skipped for output in outputs) > 10
    assert backend.calls["AdapterNetwork"] == backend.calls["EncoderNetwork"] < 20


def test_a_hint_of_another_size_is_refused_and_does_no_harm(shelf: Shelf) -> None:
    stream = Stream(tiny_model(), replace(BASE, steps=1, keep_shape=shelf.kept(*KEPT["adapter"])))
    clip, hints = frames(2, 64, 64), hints_of(2)
    before = stream(clip[0], hints=at(hints, 0)).image.clone()
    with pytest.raises(ValueError, match=r"the hint 'canny' is .* of shape \(1, 3, 32, 64\); it must be float"):
        stream(clip[0], hints={"canny": hints["canny"][:1, :, :32]})
    assert torch.equal(stream(clip[0], hints=at(hints, 0)).image, before)


def test_where_there_is_none_one_sentence_says_so(shelf: Shelf, tmp_path: Path) -> None:
    embedded = load_model("embedded", device="cpu", dtype="float32")
    stream = Stream(embedded, StreamConfig(prompt="a"))
    wanted = replace(stream.config, keep_shape=shelf.kept(*KEPT["adapter"]))
    assert not stream.is_prepared(wanted)
    with pytest.raises(ModelError, match="there is no T2I-Adapter or ControlNet for the embedded model; choose"):
        stream.configure(wanted)
    assert stream.config.keep_shape == ""
    tiny = Stream(tiny_model(), BASE)
    with pytest.raises(ModelError, match="no T2I-Adapter for mask is usual for Stable Diffusion 1; name a T2I-Adapter"):
        tiny.configure(replace(BASE, keep_shape="mask:0.5"))
    with pytest.raises(ModelError, match="there is no T2I-Adapter or ControlNet"):
        tiny.configure(replace(BASE, keep_shape=f"canny @ {tmp_path / 'nothing'}"))
    assert bool(tiny(frames(1)[0]).image.isfinite().all())


def test_what_nobody_uses_any_more_is_given_back(shelf: Shelf) -> None:
    model, clip, hints = new_tiny_model(), frames(2, 64, 64), hints_of(2)
    config = replace(BASE, steps=1, keep_shape=shelf.kept(*KEPT["both"]))
    backend = EagerBackend(model)
    streams = [Stream(model, config, backend) for _ in range(2)]
    for stream in streams:
        streamed(stream, clip, hints)
    held = [weakref.ref(model.controls.control(str(shelf.folders[name])).module) for name in ("adapter", "controlnet")]
    streams[0].configure(replace(config, keep_shape=""))
    streamed(streams[1], clip, hints)
    assert all(one() is not None for one in held), "another stream uses them"
    streams[1].close()
    gc.collect()
    assert all(one() is None for one in held)


def test_hints_are_made_of_the_frames_where_none_are_given(shelf: Shelf) -> None:
    model, clip, kept = tiny_model(), frames(5, 64, 64), KEPT["both"]
    stream = Stream(model, replace(BASE, steps=2, keep_shape=shelf.kept(*kept)))
    outputs = [stream(frame) for frame in clip]
    hints = HintMaker(model, EagerBackend(model))(("canny", "sketch"), clip)
    reference = Shaped(model, stream.config, shelf, *kept)
    assert torch.allclose(outputs[-1].image[0], reference.of(clip[3], at(hints, 3)), atol=CLOSE)
    given = [stream(frame, hints=at(hints, k)) for k, frame in enumerate(clip)]
    assert torch.allclose(given[-1].image, outputs[-1].image, atol=CLOSE)
