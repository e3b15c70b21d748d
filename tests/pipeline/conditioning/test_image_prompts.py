"""Pictures as prompts in a stream: beside the words and their guidance, in the batch, live, and at no cost when off."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from pipeline import GUIDANCE_KINDS, Model, ModelError, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.eager import EagerBackend
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.package import is_installed
from pipeline.conditioning.attention import cross_attentions
from pipeline.conditioning.conditions import Rows
from pipeline.conditioning.image_prompts import Look
from pipeline.denoiser import Denoiser
from pipeline.models.image_encoder import ImageEncoder
from pipeline.models.ip_adapter import IpAdapter
from pipeline.picture_file import picture_tensor
from pipeline.sparse.costs import Costs
from pipeline.sparse.window_unet import WindowUNet
from tests.adapters import write_lora
from tests.ip_adapters import ENCODERS, adapter_state, write_encoder, write_picture
from tests.tiny_model import new_tiny_model, tiny_model

CLOSE = 1e-5
BASE = StreamConfig(prompt="a cat", negative_prompt="grey", steps=2, strength=0.7, look_weight=0.8)
Looking = Callable[..., StreamConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two IP-Adapters for the tiny model, their encoder, and pictures."""
    folder = tmp_path_factory.mktemp("looks")
    write_encoder(folder / "image_encoder", *ENCODERS["models"])
    for kind in ("plain", "plus"):
        save_file(adapter_state(tiny_model().unet, kind, ENCODERS["models"]), folder / f"{kind}.safetensors")
    for name in "abc":
        write_picture(folder / f"{name}.png", ord(name))
    return folder


@pytest.fixture
def looking(folder: Path) -> Looking:
    """``BASE`` with a look, as in ``looking("a:0.5", "b")``."""

    def made(*pictures: str, kind: str = "plain", **settings: Any) -> StreamConfig:
        named = [one.partition(":") for one in pictures]
        entries = [f"{folder / name}.png{colon}{weight}" for name, colon, weight in named]
        look_model = str(folder / f"{kind}.safetensors")
        return replace(BASE, look_like="; ".join(entries), look_model=look_model, **settings)

    return made


def frames(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def settled(stream: Stream, frame: torch.Tensor) -> torch.Tensor:
    return [stream(frame) for _ in range(stream.config.steps + 1)][-1].image


def alone(config: StreamConfig, frame: torch.Tensor, model: Model | None = None) -> torch.Tensor:
    """The picture of a frame that is denoised by itself, step by step."""
    return Stream(model or tiny_model(), config)(frame).image


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), [(1, 1), (3, 1), (3, 2)])
def test_the_batch_equals_each_frame_alone(guidance: str, steps: int, buffer: int, looking: Looking) -> None:
    for kind in ("plain", "plus"):
        config = looking("a", "b:0.3", kind=kind, guidance=guidance, guidance_scale=1.5, steps=steps)
        clip = frames(5 * buffer)
        stream = Stream(tiny_model(True), config)
        outputs = [stream(group) for group in clip.split(buffer)] + stream.flush()
        pictures = [image for output in outputs if not output.repeated for image in output.image]
        for index in (buffer, 4 * buffer):
            expected = Stream(tiny_model(True), config)(clip[index]).image[0]
            torch.testing.assert_close(pictures[index], expected, atol=CLOSE, rtol=0)
            plain = Stream(tiny_model(True), replace(config, look_weight=0.0))(clip[index]).image[0]
            assert not torch.allclose(expected, plain, atol=1e-2)


class ByThePaper:
    """Equation 5 of arXiv 2308.06721 on what attention guidance (arXiv 2505.21179) makes of the words."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, weight: float, negative: torch.Tensor | None) -> None:
        self.keys, self.values, self.weight, self.negative = keys, values, weight, negative

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any = None, **_: Any) -> Any:
        rows = len(hidden_states)
        queries = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def attended(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            keys, values = (one.expand(rows, -1, -1, -1) for one in (keys, values))
            return F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)

        def by_words(words: torch.Tensor) -> torch.Tensor:
            projected = (to(words).unflatten(-1, (attn.heads, -1)) for to in (attn.to_k, attn.to_v))
            return attended(*(one.transpose(1, 2) for one in projected))

        found = by_words(encoder_hidden_states[:1])
        if self.negative is not None:
            negative = by_words(self.negative)
            pushed = found + 3.0 * (found - negative)
            ratio = pushed.abs().sum(-1, keepdim=True) / found.abs().sum(-1, keepdim=True)
            found = 0.5 * torch.where(ratio > 1.5, pushed * 1.5 / ratio, pushed) + 0.5 * found
        return attn.to_out[1](attn.to_out[0](found + self.weight * attended(self.keys, self.values)))


@pytest.mark.parametrize("in_attention", [False, True])
@torch.inference_mode()
def test_the_picture_is_added_once_after_the_words_are_guided(
    in_attention: bool, folder: Path, looking: Looking
) -> None:
    model, config = tiny_model(), looking("a", attention_limit=1.5, attention_blend=0.5)
    config = replace(config, attention_guidance=4.0 if in_attention else 1.0)
    attentions = cross_attentions(model.unet)
    encoded = ImageEncoder(folder / "image_encoder")(picture_tensor(folder / "a.png"), pooled=True)
    both = IpAdapter(folder / "plain.safetensors").keys_values(encoded, attentions)
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a cat", "grey" if in_attention else None)
    denoiser.set_guidance(config)
    denoiser.set_look(Look([both], [2.0], both), 0.8)
    unet = copy.deepcopy(model.unet)
    negative = model.prompts("grey") if in_attention else None
    for number, attention in enumerate(cross_attentions(unet)):
        attention.processor = ByThePaper(both[2 * number], both[2 * number + 1], 0.8, negative)
    rows = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = unet(rows, 500, model.prompts("a cat").expand(3, -1, -1)).sample
    found = denoiser(rows, torch.tensor([500] * 3), ((0, 3),))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_shares_are_those_of_a_softmax(looking: Looking) -> None:
    """A picture that is there twice is one of the double share, and one without a share is not there."""
    one = alone(looking("a:2", "b"), frames(1))
    torch.testing.assert_close(alone(looking("a", "b", "a"), frames(1)), one, atol=CLOSE, rtol=0)
    torch.testing.assert_close(alone(looking("a:1", "b:0.5", "c:0"), frames(1)), one, atol=CLOSE, rtol=0)
    assert torch.equal(alone(looking("a:0.2"), frames(1)), alone(looking("a"), frames(1)))
    assert torch.equal(alone(looking("a:0"), frames(1)), alone(BASE, frames(1)))
    assert not torch.allclose(alone(looking("a", "b"), frames(1)), one, atol=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
def test_every_change_while_frames_are_in_flight_settles_to_what_a_new_stream_gives(
    sparse: bool, looking: Looking
) -> None:
    model, frame = tiny_model(True), frames(1, 64)
    stream = Stream(model, replace(BASE, sparse=sparse))
    stream(frame)
    changes = [
        looking("a"),
        looking("a", look_weight=0.3),
        looking("a", "b"),
        looking("a", "b:0.5", guidance="full", guidance_scale=1.5),
        looking("c", kind="plus", guidance="full", guidance_scale=1.5),
        looking("c", kind="plus", attention_guidance=3.0, prompt="a dog"),
        looking("b", steps=3),
        BASE,
    ]
    for config in changes:
        config = replace(config, sparse=sparse)
        stream.configure(config)
        expected = alone(replace(config, sparse=False), frame, model)
        torch.testing.assert_close(settled(stream, frame), expected, atol=1e-4, rtol=0)


def test_a_change_of_the_pictures_travels(looking: Looking) -> None:
    """From no picture to one, from one to two, and back to none; each is half way after half of the time."""
    still, frame = {"steps": 1, "transition": 1.0}, frames(1)
    stages = [replace(BASE, **still), looking("a", **still), looking("b", "c:2", **still), replace(BASE, **still)]
    ends = [alone(stage, frame) for stage in stages]
    stream = Stream(tiny_model(), stages[0])
    now = 0.0
    stream(frame, at=now)
    for number, stage in enumerate(stages[1:], 1):
        stream.configure(stage)
        torch.testing.assert_close(stream(frame, at=now).image, ends[number - 1], atol=CLOSE, rtol=0)
        half = stream(frame, at=now + 0.5).image
        for end in ends[number - 1 : number + 1]:
            assert not torch.allclose(half, end, atol=1e-3)
        now += 1.0
        torch.testing.assert_close(stream(frame, at=now).image, ends[number], atol=CLOSE, rtol=0)
        now += 1.0
        torch.testing.assert_close(stream(frame, at=now).image, ends[number], atol=CLOSE, rtol=0)


def test_a_change_that_interrupts_another_does_not_jump(looking: Looking) -> None:
    stream = Stream(tiny_model(), looking("a", steps=1, transition=1.0))
    stream(frames(1), at=0.0)
    stream.configure(looking("b", steps=1, transition=1.0))
    half = stream(frames(1), at=0.5).image
    stream.configure(looking("a", steps=1, transition=1.0))
    torch.testing.assert_close(stream(frames(1), at=0.5).image, half, atol=CLOSE, rtol=0)
    expected = alone(looking("a", steps=1), frames(1))
    torch.testing.assert_close(stream(frames(1), at=1.5).image, expected, atol=CLOSE, rtol=0)


class Calls:
    """How often the parts of an IP-Adapter are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoder = self.projected = self.read = 0
        self._count(monkeypatch, ImageEncoder, "__call__", "encoder")
        self._count(monkeypatch, IpAdapter, "keys_values", "projected")
        self._count(monkeypatch, IpAdapter, "__init__", "read")

    def _count(self, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, name: str) -> None:
        call = getattr(kind, method)

        def counted(*arguments: Any, **options: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return call(*arguments, **options)

        monkeypatch.setattr(kind, method, counted)

    def __call__(self) -> tuple[int, int, int]:
        return self.encoder, self.projected, self.read


def test_a_picture_is_encoded_and_projected_once(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    stream = Stream(tiny_model(), BASE)
    for frame in frames(3):
        stream(frame)
    assert calls() == (0, 0, 0)
    stream.configure(looking("a", kind="plus"))
    assert calls() == (2, 2, 1)  # of the picture, and of no picture
    for frame in frames(3):
        stream(frame)
    stream.configure(looking("a:0.5", kind="plus", look_weight=0.2, prompt="a dog", guidance="full", transition=0.1))
    for frame in frames(9):
        stream(frame)
    assert calls() == (2, 2, 1)
    stream.configure(looking("a", "b", kind="plus"))
    assert calls() == (3, 3, 1)
    stream.configure(BASE)
    stream.configure(looking("a", kind="plus"))
    assert calls() == (3, 5, 2)  # the adapter was let go, what the encoder has said was not


def entries(stream: Stream) -> set[str]:
    denoiser = stream._denoiser
    return set(denoiser._conditions(torch.zeros(2, 4, 4, 4), ((0, 1), (1, 1))))


def test_off_adds_nothing_to_what_the_denoiser_is_told(looking: Looking) -> None:
    config = replace(BASE, guidance="full", guidance_scale=1.5)
    plain = entries(Stream(tiny_model(), config))
    stream = Stream(tiny_model(), looking("a", guidance="full", guidance_scale=1.5))
    layers = len(cross_attentions(tiny_model().unet))
    added = {f"cross_{number}_image_{which}" for number in range(layers) for which in ("keys", "values")}
    assert entries(stream) - plain == added | {"cross_all_image_shares", "cross_all_image_weight"}
    stream(frames(1))
    stream.configure(replace(stream.config, look_weight=0.0))
    assert entries(stream) == plain
    stream.configure(replace(stream.config, look_weight=0.5, look_like=""))
    stream(frames(1))
    assert entries(stream) == plain
    kept = stream._looks._adapters, stream._looks._pictures, stream._denoiser._images._tensors
    assert not any(map(len, kept))


def test_pictures_are_given_as_tensors(folder: Path, looking: Looking) -> None:
    """They stand in place of those in the settings, until they are taken back or the settings name others."""
    stream = Stream(tiny_model(), looking("a"))
    stream(frames(1))
    pictures = torch.stack([picture_tensor(folder / "b.png"), picture_tensor(folder / "c.png")])
    stream.look_like(pictures, [1.0, 2.0])
    assert torch.equal(settled(stream, frames(1)), settled(Stream(tiny_model(), looking("b", "c:2")), frames(1)))
    stream.configure(looking("a", look_weight=0.4))
    expected = settled(Stream(tiny_model(), looking("b", "c:2", look_weight=0.4)), frames(1))
    assert torch.equal(settled(stream, frames(1)), expected)
    stream.look_like(None)
    expected = settled(Stream(tiny_model(), looking("a", look_weight=0.4)), frames(1))
    assert torch.equal(settled(stream, frames(1)), expected)
    stream.look_like(pictures[:1])
    stream.configure(looking("c"))
    torch.testing.assert_close(settled(stream, frames(1)), alone(looking("c"), frames(1)), atol=CLOSE, rtol=0)
    for wrong, weights in ((pictures[0], None), (pictures, [1.0]), (pictures, [0.0, 0.0]), (pictures, [1.0, -1.0])):
        with pytest.raises(ValueError, match=r"pictures must be|give one above 0 each"):
            stream.look_like(wrong, weights)


def test_a_tensor_changes_a_still_picture_that_the_filter_would_skip(looking: Looking) -> None:
    stream = Stream(tiny_model(), looking("a", steps=1, similarity_filter=True))
    before = [stream(frames(1)) for _ in range(4)][-1]
    assert before.repeated or before.skipped
    stream.look_like(torch.rand(1, 3, 40, 40))
    assert not torch.allclose(stream(frames(1)).image, before.image, atol=1e-3)


@pytest.mark.parametrize("mode", ["sliced", "offload"])
def test_it_works_in_little_memory(mode: str, looking: Looking) -> None:
    model, config = new_tiny_model(), looking("a", "b", steps=3, guidance="full", guidance_scale=1.5)
    stream = Stream(model, BASE)
    stream(frames(1))
    stream.save_memory(mode)
    stream.configure(config)
    torch.testing.assert_close(settled(stream, frames(1)), alone(config, frames(1)), atol=CLOSE, rtol=0)


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
def test_compiled_engines_look_at_the_picture_and_need_no_other_for_a_change_of_it(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(True)
    backend = accelerate(model, "openvino")
    assert isinstance(backend, OpenVinoBackend)
    backend.patient = True
    stream, by_pytorch = (Stream(model, looking("a", steps=2), one) for one in (backend, None))
    with contextlib.closing(backend):
        for frame in frames(3):
            torch.testing.assert_close(stream(frame).image, by_pytorch(frame).image, atol=2e-3, rtol=0)
        backend.wait()
        monkeypatch.setattr(backend._pictures, "_order", lambda _: None)
        monkeypatch.setattr(backend._eager, "run", lambda *_: pytest.fail("the model itself was called"))
        for change in (looking("b"), looking("b", look_weight=0.2), looking("c", transition=0.1)):
            stream.configure(change)
            by_pytorch.configure(change)
            for frame in frames(5):
                torch.testing.assert_close(stream(frame).image, by_pytorch(frame).image, atol=2e-3, rtol=0)


def test_windows_of_sparse_inference_look_at_the_picture(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a sparse stream settles to the dense picture, the test of every change shows."""
    monkeypatch.setattr("pipeline.sparse.unet.LATENT_SIDES", (4, 8, 12))
    monkeypatch.setattr("pipeline.sparse.unet.WIDE_HALO", 1)
    monkeypatch.setattr("pipeline.sparse.trial.TRIALS", 0)  # windows are taken to be right between zeros
    monkeypatch.setattr(Costs, "note", lambda *_: None)
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)
    told: list[set[str]] = []
    forward = WindowUNet.forward

    def recorded(unet: WindowUNet, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        told.append(set(others))
        return forward(unet, rows, **others)

    monkeypatch.setattr(WindowUNet, "forward", recorded)
    guided = {"guidance": "full", "guidance_scale": 1.5}
    scene, stream = frames(1, 128)[0], Stream(tiny_model(), looking("a", steps=1, sparse=True, **guided))
    for left in (0, 16, 32, 48, 64):
        moved = scene.clone()
        moved[:, 40:56, left : left + 16] = 1 - moved[:, 40:56, left : left + 16]
        stream(moved)
    wanted = {name for name in entries(stream) if "image" in name}
    assert told
    assert all(wanted <= names for names in told)


def test_a_lora_leaves_the_picture_as_it_is(looking: Looking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words' keys and values are made anew, the picture's are not, and both are those of a new stream."""
    model = new_tiny_model()
    lora = tmp_path / "lora.safetensors"
    write_lora(lora, model, "kohya")
    stream = Stream(model, looking("a"))
    plain = settled(stream, frames(1))
    calls = Calls(monkeypatch)
    stream.configure(replace(stream.config, loras=str(lora)))
    changed = settled(stream, frames(1))
    assert calls() == (0, 0, 0)
    assert not torch.allclose(changed, plain, atol=1e-3)
    torch.testing.assert_close(changed, alone(stream.config, frames(1), model), atol=CLOSE, rtol=0)
    stream.configure(looking("a"))
    assert torch.equal(settled(stream, frames(1)), plain)


def test_a_file_that_has_changed_is_read_when_it_is_chosen_again(looking: Looking, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "face.png", 1)
    config = replace(looking("a"), look_like=str(path))
    stream = Stream(tiny_model(), config)
    first = settled(stream, frames(1))
    write_picture(path, 2)
    stream.configure(replace(config, look_like=""))
    assert not stream.is_prepared(config)
    stream.configure(config)
    assert not torch.allclose(settled(stream, frames(1)), first, atol=1e-3)


def test_what_is_read_beside_is_there_when_it_is_asked_for(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    """``prepare`` reads; ``configure`` then reads nothing."""
    stream = Stream(tiny_model(), BASE)
    config = looking("a", "b")
    assert not stream.is_prepared(config)
    stream.prepare(config)
    assert stream.is_prepared(config)
    calls = Calls(monkeypatch)
    stream.configure(config)
    assert calls() == (0, 0, 0)


def test_the_words_keys_and_values_are_the_same_with_and_without(looking: Looking) -> None:
    """So that what is kept of prompts on disk is theirs alone."""
    plain, looked = (Stream(tiny_model(), config)._denoiser._prompts for config in (BASE, looking("a")))
    rows = Rows(((0, 2),), 4, 4)
    for name, tensor in plain.entries(rows).items():
        assert torch.equal(looked.entries(rows)[name], tensor)


def test_a_family_without_an_adapter_says_so(folder: Path) -> None:
    """The stream goes on as it was."""
    stream = Stream(load_model("embedded", device="cpu"), StreamConfig())
    plain = stream(frames(1)).image
    assert stream.look_obstacle is not None
    for ask in (
        lambda: stream.look_like(torch.rand(1, 3, 8, 8)),
        lambda: stream.configure(StreamConfig(look_like=str(folder / "a.png"))),
    ):
        with pytest.raises(ModelError, match="there is no IP-Adapter for the embedded model; choose") as caught:
            ask()
        assert str(caught.value) == stream.look_obstacle
        assert torch.equal(stream(frames(1)).image, plain)
    assert Stream(tiny_model(), BASE).look_obstacle is None
