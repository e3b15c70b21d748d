"""Cached keys and values: the same output as without, and never stale."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from pipeline import Model, Stream, StreamConfig
from pipeline.conditioning.attention_cache import AttentionCache
from pipeline.denoiser import Denoiser
from tests.pipeline.reference import Reference
from tests.tiny_model import tiny_model


@pytest.fixture
def model() -> Model:
    """A model of its own, whose weights a test may change."""
    own = copy.deepcopy(tiny_model())
    own.unet.set_attn_processor(AttnProcessor2_0())
    return own


def uncached(model: Model, rows: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    embeddings = torch.cat([model.prompts(prompt) for prompt in prompts])
    return Reference(model, StreamConfig()).unet(rows, torch.tensor([500] * len(rows)), embeddings).sample


def cached(denoiser: Denoiser, rows: torch.Tensor, layout: tuple[tuple[int, int], ...]) -> torch.Tensor:
    return denoiser(rows, torch.tensor([500] * len(rows)), layout)


@torch.inference_mode()
def test_output_is_that_of_the_uncached_unet(model: Model) -> None:
    denoiser = Denoiser(model)
    denoiser.set_prompts("a cat", "a dog")
    rows = torch.randn(5, 4, 8, 8)
    expected = uncached(model, rows, ["a cat"] * 3 + ["a dog"] * 2)
    assert torch.allclose(cached(denoiser, rows, ((0, 3), (1, 2))), expected, atol=1e-6)
    assert torch.equal(cached(denoiser, rows[:1], ((0, 1),)), uncached(model, rows[:1], ["a cat"]))


@torch.inference_mode()
def test_keys_and_values_are_computed_once_a_prompt(model: Model) -> None:
    calls = []
    layers = [m for name, m in model.unet.named_modules() if ".attn2.to_k" in name or ".attn2.to_v" in name]
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    denoiser = Denoiser(model)
    denoiser.set_prompts("a cat", None)
    assert len(layers) > 0
    assert len(calls) == len(layers)
    for _ in range(5):
        cached(denoiser, torch.randn(2, 4, 8, 8), ((0, 2),))
    assert len(calls) == len(layers)


@torch.inference_mode()
def test_a_prompt_change_is_seen(model: Model) -> None:
    denoiser, rows = Denoiser(model), torch.randn(1, 4, 8, 8)
    denoiser.set_prompts("a cat", None)
    first = cached(denoiser, rows, ((0, 1),))
    denoiser.set_prompts("a neon sign", None)
    second = cached(denoiser, rows, ((0, 1),))
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(second, uncached(model, rows, ["a neon sign"]))


@torch.inference_mode()
def test_a_low_rank_update_of_the_weights_is_seen(model: Model) -> None:
    """As fusing a LoRA does: W += up @ down."""
    denoiser, rows = Denoiser(model), torch.randn(1, 4, 8, 8)
    denoiser.set_prompts("a cat", None)
    before = cached(denoiser, rows, ((0, 1),))
    for name, module in model.unet.named_modules():
        if name.endswith("attn2.to_v"):
            module.weight.add_(torch.randn(module.out_features, 2) @ torch.randn(2, module.in_features))
    after = cached(denoiser, rows, ((0, 1),))
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.equal(after, uncached(model, rows, ["a cat"]))


@torch.inference_mode()
def test_an_adapter_around_a_projection_is_seen(model: Model) -> None:
    """As an unfused LoRA does: the layer itself is replaced."""
    denoiser, rows = Denoiser(model), torch.randn(1, 4, 8, 8)
    denoiser.set_prompts("a cat", None)
    cached(denoiser, rows, ((0, 1),))
    for module in list(model.unet.modules()):
        if getattr(module, "is_cross_attention", False):
            module.to_k = torch.nn.Sequential(module.to_k, torch.nn.Linear(16, 16, bias=False))  # type: ignore[assignment]
            break
    expected = uncached(model, rows, ["a cat"])
    assert torch.equal(cached(denoiser, rows, ((0, 1),)), expected)


def test_inject_and_eject_are_exact_inverses(model: Model) -> None:
    before = dict(model.unet.attn_processors)
    cache = AttentionCache(model.unet)
    cache.inject()
    changed = {name for name, processor in model.unet.attn_processors.items() if processor is not before[name]}
    assert changed == {name for name in before if "attn2" in name}
    cache.eject()
    assert model.unet.attn_processors == before


def test_closing_a_stream_gives_the_unet_back(model: Model) -> None:
    before = dict(model.unet.attn_processors)
    stream = Stream(model, StreamConfig(prompt="x"))
    stream(torch.rand(3, 32, 32))
    assert model.unet.attn_processors != before
    stream.close()
    assert model.unet.attn_processors == before
