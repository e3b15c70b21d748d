"""The feature bank against the paper's formulas, written out here with a processor of diffusers' kind."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline import Model, Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.conditioning.attention import self_attentions
from pipeline.conditioning.feature_bank import halved
from pipeline.denoiser import Denoiser
from pipeline.models.networks import Network
from tests.tiny_model import new_tiny_model

BASE = StreamConfig(prompt="a cat", feature_bank=0.6)


def new_model() -> Model:
    """A tiny model whose self-attentions matter: random ones are nearly uniform, and hardly seen in the picture."""
    model = new_tiny_model()
    with torch.no_grad():
        for attention in self_attentions(model.unet):
            for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
                for weight in layer.parameters():
                    weight.mul_(6)
    return model


@pytest.fixture(scope="module")
def model() -> Model:
    """One for all tests that leave its weights as they are."""
    return new_model()


class ByThePaper:
    """arXiv 2405.15757, equations 3 and 4, of one attention; what was found at a call is the bank of the next."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.bank: tuple[torch.Tensor, ...] = ()

    def __call__(self, attn: Any, hidden_states: torch.Tensor, **_: Any) -> Any:
        q, k, v = (one(hidden_states).unflatten(-1, (attn.heads, -1)) for one in (attn.to_q, attn.to_k, attn.to_v))
        found = torch.empty_like(v)
        for row in range(len(q)):
            for head in range(attn.heads):
                scores = q[row, :, head] @ k[row, :, head].T / math.sqrt(q.shape[-1])
                values = v[row, :, head]
                if self.bank:
                    banked = q[row, :, head] @ self.bank[0][row, :, head].T / math.sqrt(q.shape[-1])
                    scores = torch.cat([scores, banked + math.log(self.strength)], 1)
                    values = torch.cat([values, self.bank[1][row, :, head]])
                found[row, :, head] = scores.softmax(-1) @ values
        result = found.flatten(2).clone()
        if self.bank:
            before = self.bank[2].flatten(2)
            for row in range(len(q)):
                for token in range(q.shape[1]):
                    cosines = F.cosine_similarity(result[row, token][None], before[row])
                    best = int(cosines.argmax())
                    share = 0.8 * self.strength * min(1.0, max(0.0, (float(cosines[best]) - 0.9) / 0.08))
                    result[row, token] += share * (before[row, best] - result[row, token])
        self.bank = k, v, found
        return attn.to_out[1](attn.to_out[0](result))


@torch.inference_mode()
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_denoiser_answers_as_the_paper_says(model: Model, strength: float) -> None:
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a cat")
    denoiser.set_feature_bank(strength)
    unet = copy.deepcopy(model.unet)
    for attention in self_attentions(unet):
        attention.processor = ByThePaper(strength)
    first = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    second = first + 0.3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    timesteps, tokens = torch.tensor([700, 300]), model.prompts("a cat").expand(2, -1, -1)
    for rows in (first, second):
        expected = unet(rows, timesteps, tokens).sample
        found = denoiser(rows, timesteps, ((0, 2),))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    plain = model.unet(second, timesteps, tokens).sample
    assert (found - plain).abs().max() > 1e-3


class Watched(EagerBackend):
    """Notes the names of what each call of the denoiser is given, and gives."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.seen: list[set[str]] = []

    def run(self, network: Network, moving: Mapping[str, Any], staying: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        found = super().run(network, moving, staying)
        if network.name == "denoiser":
            self.seen.append({*moving, *staying, *found})
        return found


def test_off_it_costs_no_call_and_no_tensor(model: Model) -> None:
    plain, on = Watched(model), Watched(model)
    frame = torch.rand(3, 64, 64)
    streams = [Stream(model, replace(BASE, steps=2, feature_bank=bank), one) for bank, one in ((0.0, plain), (0.5, on))]
    for stream in streams:
        for _ in range(3):
            stream(frame)
        stream.close()
    assert len(plain.seen) == 2 + 2  # the first picture step by step, and a call for each of the others
    assert not any(name.startswith("self_") for names in plain.seen for name in names)
    assert len(on.seen) == len(plain.seen) + 1  # one more call, of one row, at the start
    assert all("self_0_keys" in names for names in on.seen)
    streams[0].configure(replace(streams[0].config, feature_bank=0.5))
    streams[0].configure(replace(streams[0].config, feature_bank=0.0))
    streams[0](frame)
    assert not any(name.startswith("self_") for name in plain.seen[-1])


def scenes(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    still = torch.rand(3, 64, 64, generator=generator)
    return [(still + 0.1 * torch.rand(3, 64, 64, generator=generator)).clamp(0, 1) for _ in range(count)]


@pytest.mark.parametrize("change", ["reset", "size", "strength", "prompt", "guidance", "weights"])
def test_nothing_of_another_scene_or_look_lives_on(change: str) -> None:
    """After the change pictures are those of a new stream."""
    model = new_model()
    stream, frames = Stream(model, BASE), scenes(8)
    for frame in frames[:5]:
        stream(frame)
    last = frames[5:]
    if change == "reset":
        stream.reset()
    elif change == "size":
        last = [frame[:, :32] for frame in last]
    elif change == "weights":
        with torch.inference_mode(False), torch.no_grad(), model.residency.changing("denoiser"):
            for attention in self_attentions(model.unet):
                for weight in attention.to_v.parameters():
                    weight.mul_(2)
    else:
        named = {"strength": {"strength": 0.5}, "prompt": {"prompt": "b"}, "guidance": {"guidance": "full"}}[change]
        stream.configure(replace(stream.config, **named, guidance_scale=2.0 if change == "guidance" else 1.0))
    found = [stream(frame).image for frame in last]
    new = Stream(model, stream.config)
    if change not in ("reset", "size"):  # a new stream's first picture is made step by step, and seen by no bank
        new(last[0])
    expected = [new(frame).image for frame in last]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    plain = Stream(model, replace(stream.config, feature_bank=0.0))
    without = [plain(frame).image for frame in last]
    assert not torch.allclose(without[-1], found[-1], atol=1e-3)  # it is in use again


@pytest.mark.parametrize("steps", [1, 3])
def test_each_row_has_a_bank_of_its_own(model: Model, steps: int) -> None:
    """Two frames side by side give what each gives in a stream of its own."""
    config = replace(BASE, steps=steps)
    left, right = scenes(6), [frame.flip(2) for frame in scenes(6)]
    together, alone = Stream(model, config), [Stream(model, config) for _ in range(2)]
    for pair in zip(left, right, strict=True):
        both = together(torch.stack(pair)).image
        for place, stream in enumerate(alone):
            torch.testing.assert_close(both[place : place + 1], stream(pair[place]).image, atol=1e-4, rtol=1e-4)


def test_any_backend_has_it(model: Model) -> None:
    frames = scenes(6)

    def pictures(stream: Stream) -> torch.Tensor:
        stream.wait_for_engines(True)
        return torch.cat([stream(frame).image for frame in frames])

    config = replace(BASE, steps=2)
    expected = pictures(Stream(model, config))
    plain = pictures(Stream(model, replace(config, feature_bank=0.0)))
    effect = float((plain - expected).abs().max())
    assert effect > 0.01
    for backend in (GraphBackend(model, "cuda-graphs", CUDA_GRAPHS), OpenVinoBackend(model)):
        found = pictures(Stream(model, config, backend))
        assert float((found - expected).abs().mean()) < 0.1 * effect, backend.name
        assert backend.news() == []
        backend.close()


def test_with_sparse_inference_the_denoiser_is_computed_as_a_whole(model: Model) -> None:
    scene, watched = scenes(1)[0], Watched(model)
    config = replace(BASE, steps=2)
    dense, plain = Stream(model, config), Stream(model, replace(config, feature_bank=0.0))
    sparse = Stream(model, replace(config, sparse=True), watched)
    errors, effects = [], []
    for number in range(8):
        frame = scene.clone()
        frame[:, 8:24, 8 * (number % 6) : 8 * (number % 6) + 16] = 0.9
        expected = dense(frame).image
        errors.append(float((sparse(frame).image - expected).abs().mean()))  # of the encoder's windows
        effects.append(float((plain(frame).image - expected).abs().mean()))
    assert max(errors[3:]) < 0.5 * max(effects[3:])
    assert all("self_0_keys" in names for names in watched.seen)


def test_saving_memory_goes_without(model: Model) -> None:
    """Slices of a self-attention's queries see no bank: the picture is that without one, and nothing fails."""
    stream, plain = Stream(model, BASE), Stream(model, replace(BASE, feature_bank=0.0))
    stream.save_memory("sliced")
    for frame in scenes(3):
        torch.testing.assert_close(stream(frame).image, plain(frame).image, atol=1e-5, rtol=0)


def test_a_merge_keeps_what_differs_and_averages_what_is_alike() -> None:
    kinds = [torch.eye(4)[[0, 1, 0, 1]] * torch.tensor([[1.0], [1.0], [3.0], [5.0]]) for _ in range(3)]
    together = [one.view(1, 4, 2, 2).transpose(1, 2) for one in kinds]  # four tokens, two heads of two numbers
    merged = halved(together, torch.tensor([0, 1, 2, 3]))
    for one in merged:
        assert one.shape == (1, 2, 2, 2)
        flat = one.transpose(1, 2).flatten(2)[0]
        assert flat.tolist() == [[2, 0, 0, 0], [0, 3, 0, 0]]


def test_the_mean_of_all_tokens_is_kept_by_their_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    together = [torch.randn(2, 3, 10, 4, generator=generator) for _ in range(3)]
    merged = halved(together, torch.randperm(10, generator=generator))
    for whole, half in zip(together, merged, strict=True):
        assert half.shape == (2, 3, 5, 4)
        assert half.abs().max() <= whole.abs().max()  # means of what was there
