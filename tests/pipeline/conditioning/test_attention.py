"""Keys and values as inputs: the same output as the plain UNet's, computed once a prompt, and never stale."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from pipeline import Model, Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.denoiser import Denoiser
from pipeline.models.residency import DENOISER
from tests.pipeline.reference import Reference
from tests.tiny_model import new_tiny_model, tiny_model, unet_of


@pytest.fixture
def model() -> Model:
    """A model of its own, whose weights a test may change."""
    return new_tiny_model()


def denoiser_of(model: Model, positive: str, negative: str | None = None) -> Denoiser:
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts(positive, negative)
    return denoiser


def plain(model: Model, rows: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    embeddings = torch.cat([model.prompts(prompt) for prompt in prompts])
    return Reference(model, StreamConfig()).unet(rows, torch.tensor([500] * len(rows)), embeddings).sample


def called(denoiser: Denoiser, rows: torch.Tensor, layout: tuple[tuple[int, int], ...]) -> torch.Tensor:
    return denoiser(rows, torch.tensor([500] * len(rows)), layout)


@torch.inference_mode()
def test_output_is_that_of_the_plain_unet(model: Model) -> None:
    denoiser = denoiser_of(model, "a cat", "a dog")
    rows = torch.randn(5, 4, 8, 8)
    expected = plain(model, rows, ["a cat"] * 3 + ["a dog"] * 2)
    assert torch.allclose(called(denoiser, rows, ((0, 3), (1, 2))), expected, atol=1e-6)
    assert torch.equal(called(denoiser, rows[:1], ((0, 1),)), plain(model, rows[:1], ["a cat"]))


@torch.inference_mode()
def test_keys_and_values_are_computed_once_a_prompt(model: Model) -> None:
    calls = []
    layers = [m for name, m in model.unet.named_modules() if ".attn2.to_k" in name or ".attn2.to_v" in name]
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    denoiser = denoiser_of(model, "a cat")
    assert len(layers) > 0
    assert len(calls) == len(layers)
    for _ in range(5):
        called(denoiser, torch.randn(2, 4, 8, 8), ((0, 2),))
    assert len(calls) == len(layers)
    denoiser.set_prompts("a cat", "a dog")
    assert len(calls) == 2 * len(layers), "those of the prompt that stays are kept"


@torch.inference_mode()
def test_a_prompt_change_is_seen(model: Model) -> None:
    denoiser, rows = denoiser_of(model, "a cat"), torch.randn(1, 4, 8, 8)
    first = called(denoiser, rows, ((0, 1),))
    denoiser.set_prompts("a neon sign")
    second = called(denoiser, rows, ((0, 1),))
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(second, plain(model, rows, ["a neon sign"]))


def test_a_change_of_the_weights_by_others_is_seen(model: Model) -> None:
    """As fusing an adapter does: W += up @ down; and as wrapping a layer does. Both are told to the residency."""
    stream, frame = Stream(model, StreamConfig(prompt="a cat", solver="ddim")), torch.rand(3, 32, 32)
    pictures = [stream(frame).image]
    projections = [module for name, module in unet_of(model).named_modules() if name.endswith("attn2.to_v")]
    with model.residency.changing(DENOISER), torch.no_grad():
        for module in projections:
            module.weight.add_(torch.randn(module.out_features, 2) @ torch.randn(2, module.in_features))
    pictures.append(stream(frame).image)
    with model.residency.changing(DENOISER, moved=True):
        for module in unet_of(model).modules():
            if getattr(module, "is_cross_attention", False):
                width = module.to_q.out_features  # type: ignore[union-attr]
                module.to_q = torch.nn.Sequential(module.to_q, torch.nn.Linear(width, width, bias=False))  # type: ignore[assignment]
    pictures.append(stream(frame).image)
    for before, after in pairwise(pictures):
        assert not torch.allclose(before, after, atol=1e-4)
    fresh = Stream(model, stream.config)(frame).image
    assert torch.equal(pictures[-1], fresh)


def test_a_stream_leaves_the_unet_itself_alone() -> None:
    model = tiny_model()
    before = dict(unet_of(model).attn_processors)
    assert all(isinstance(processor, AttnProcessor2_0) for processor in before.values())
    stream = Stream(model, StreamConfig(prompt="x", negative_prompt="y", guidance="full", guidance_scale=2.0))
    stream(torch.rand(3, 32, 32))
    assert unet_of(model).attn_processors == before
    stream.close()
    assert unet_of(model).attn_processors == before
