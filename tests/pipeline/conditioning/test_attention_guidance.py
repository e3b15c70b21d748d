"""Normalised attention guidance against the paper's formulas, written out here with a processor of diffusers' kind."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline import Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.attention import cross_attentions
from pipeline.denoiser import Denoiser
from tests.tiny_model import tiny_model

BASE = StreamConfig(
    prompt="a cat", negative_prompt="grey", steps=1, attention_guidance=4.0, attention_limit=1.5, attention_blend=0.5
)


class ByThePaper:
    """arXiv 2505.21179, equations 7 to 10, for one prompt and one negative prompt (1, L, D)."""

    def __init__(self, negative: torch.Tensor, phi: float, tau: float, alpha: float) -> None:
        self.negative, self.phi, self.tau, self.alpha = negative, phi, tau, alpha

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: Any = None, **_: Any) -> Any:
        def attended(prompt: torch.Tensor) -> torch.Tensor:
            prompt = prompt.expand(len(hidden_states), -1, -1)
            split = [
                part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (attn.to_k(prompt), attn.to_v(prompt))
            ]
            queries = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return F.scaled_dot_product_attention(queries, *split).transpose(1, 2).flatten(2)

        positive, negative = attended(encoder_hidden_states), attended(self.negative)
        extrapolated = positive + self.phi * (positive - negative)
        ratio = extrapolated.abs().sum(-1, keepdim=True) / positive.abs().sum(-1, keepdim=True)
        normalised = torch.where(ratio > self.tau, extrapolated * self.tau / ratio, extrapolated)
        return attn.to_out[1](attn.to_out[0](self.alpha * normalised + (1 - self.alpha) * positive))


@torch.inference_mode()
@pytest.mark.parametrize(("scale", "limit", "blend"), [(4.0, 1.5, 0.5), (2.0, 10.0, 1.0), (11.0, 2.5, 0.25)])
def test_the_denoiser_answers_as_the_paper_says(scale: float, limit: float, blend: float) -> None:
    model = tiny_model()
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a cat", "grey")
    denoiser.set_guidance(replace(BASE, attention_guidance=scale, attention_limit=limit, attention_blend=blend))
    unet = copy.deepcopy(model.unet)
    for attention in cross_attentions(unet):
        attention.processor = ByThePaper(model.prompts("grey"), scale - 1, limit, blend)
    rows = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = unet(rows, 500, model.prompts("a cat").expand(3, -1, -1)).sample
    found = denoiser(rows, torch.tensor([500] * 3), ((0, 3),))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    plain = model.unet(rows, 500, model.prompts("a cat").expand(3, -1, -1)).sample
    assert not torch.allclose(found, plain, atol=1e-3)


@torch.inference_mode()
def test_rows_under_the_negative_prompt_are_not_guided() -> None:
    model = tiny_model()
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a cat", "grey")
    denoiser.set_guidance(BASE)
    rows = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    _, negative = denoiser(rows, torch.tensor([500, 500]), ((0, 1), (1, 1))).split(1)
    torch.testing.assert_close(negative, model.unet(rows[:1], 500, model.prompts("grey")).sample, atol=1e-5, rtol=0)


def frame() -> torch.Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_it_comes_and_goes_live() -> None:
    model, off = tiny_model(), replace(BASE, attention_guidance=1.0)
    stream = Stream(model, off)
    plain = stream(frame()).image
    stream.configure(BASE)
    guided = stream(frame()).image
    assert not torch.allclose(plain, guided, atol=1e-4)
    assert torch.equal(guided, Stream(model, BASE)(frame()).image)
    stream.configure(replace(BASE, negative_prompt="a mosaic"))
    other = stream(frame()).image
    assert not torch.allclose(other, guided, atol=1e-4)
    stream.configure(replace(BASE, attention_blend=0.0))
    assert torch.equal(stream(frame()).image, plain)
    stream.configure(off)
    assert torch.equal(stream(frame()).image, plain)


@pytest.mark.parametrize("guidance", ["self-negative", "onetime-negative", "full"])
@pytest.mark.parametrize("steps", [1, 3])
def test_it_goes_with_every_guidance_and_number_of_steps(guidance: str, steps: int) -> None:
    """A batched stream on a still scene gives what one step after the other gives."""
    config = replace(BASE, guidance=guidance, guidance_scale=1.5, steps=steps)
    stream = Stream(tiny_model(True), config)
    first = stream(frame()).image
    settled = [stream(frame()) for _ in range(steps)][-1].image
    torch.testing.assert_close(settled, first, atol=1e-5, rtol=0)
    assert not torch.allclose(first, Stream(tiny_model(True), replace(config, attention_guidance=1.0))(frame()).image)
