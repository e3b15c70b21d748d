"""Guidance: what it asks of the UNet, and the identities that its definition gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline import GUIDANCE_KINDS, Stream, StreamConfig, load_model
from pipeline.backends.eager import EagerBackend
from pipeline.diffusion.guidance import rescaled, row_layout
from tests.pipeline.backends.calls import RecordingBackend
from tests.pipeline.pictures import burnt, sample_frame
from tests.tiny_model import tiny_model

BASE = StreamConfig(prompt="a cat", negative_prompt="a dog", steps=3)


def run(config: StreamConfig, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    stream = Stream(tiny_model(), config)
    return torch.stack([stream(torch.rand(3, 32, 32, generator=generator)).image for _ in range(count)])


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_scale_one_is_no_guidance(guidance: str) -> None:
    guided = run(replace(BASE, guidance=guidance, guidance_scale=1.0))
    assert torch.allclose(guided, run(BASE), atol=1e-5)


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS[1:])
def test_another_scale_is_not(guidance: str) -> None:
    guided = run(replace(BASE, guidance=guidance, guidance_scale=1.5))
    assert not torch.allclose(guided, run(BASE), atol=1e-2)


def test_rescaling_gives_each_frame_its_contrast_back() -> None:
    generator = torch.Generator().manual_seed(0)
    unguided = torch.randn(3, 2, 4, 8, 8, generator=generator) * torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    guided = 2.5 * torch.randn(3, 2, 4, 8, 8, generator=generator) + 1
    whole = rescaled(guided, unguided, 1.0)
    torch.testing.assert_close(whole.flatten(2).std(2), unguided.flatten(2).std(2))
    torch.testing.assert_close(whole / guided, (whole / guided)[..., :1, :1, :1].expand_as(guided))  # nothing else
    torch.testing.assert_close(rescaled(guided, unguided, 0.3), 0.7 * guided + 0.3 * whole)
    assert bool(rescaled(torch.zeros(4, 8, 8), unguided[0, 0], 1.0).isfinite().all())


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS[1:])
def test_guidance_burns_nothing_where_the_model_is_taken_as_it_recommends(guidance: str) -> None:
    model, frame = load_model("embedded", device="cpu"), sample_frame()
    config = replace(StreamConfig(**model.defaults), prompt="a pencil sketch", guidance=guidance, guidance_scale=2.0)
    plain = Stream(model, replace(config, guidance="none"))(frame).image
    assert burnt(Stream(model, config)(frame).image, plain) < 0.002
    unscaled = Stream(model, replace(config, guidance_rescale=0.0))(frame).image
    assert burnt(unscaled, plain) > 0.02


def test_the_negative_prompt_matters_only_where_it_is_asked_for() -> None:
    for guidance, matters in (("full", True), ("onetime-negative", True), ("self-negative", False), ("none", False)):
        config = replace(BASE, guidance=guidance, guidance_scale=1.5)
        changed = not torch.allclose(run(config), run(replace(config, negative_prompt="a neon sign")), atol=1e-4)
        assert changed == matters, guidance


@pytest.mark.parametrize("buffer", [1, 2])
@pytest.mark.parametrize(
    ("guidance", "extra"), [("none", 0), ("self-negative", 0), ("onetime-negative", 1), ("full", 3)]
)
def test_rows_that_a_tick_costs(guidance: str, extra: int, buffer: int) -> None:
    model = tiny_model()
    backend = RecordingBackend(EagerBackend(model))
    stream = Stream(model, replace(BASE, guidance=guidance, guidance_scale=1.5), backend)
    clip = torch.rand(buffer, 3, 32, 32)
    stream(clip)
    backend.calls.clear()
    stream(clip)
    assert [shape[0] for shape in backend.shapes("denoiser")] == [(BASE.steps + extra) * buffer]


def test_priming_asks_for_the_negative_prompt_once() -> None:
    assert row_layout("onetime-negative", 1, 2, first=True) == ((0, 2), (1, 2))
    assert row_layout("onetime-negative", 1, 2, first=False) == ((0, 2),)


@torch.inference_mode()
def test_self_negative_needs_no_second_unet_answer_and_moves_away_from_the_input() -> None:
    """x0 = g x0_c + (1 - g) x_input at delta = 1: beyond the unguided picture, away from the input.

    As the paper has it (StreamDiffusion, section 3.2), by default: nothing is rescaled.
    """
    captured: dict[float, Any] = {}
    frame = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain = replace(BASE, steps=1, guidance="self-negative", solver="ddim")
    for scale in (1.0, 2.0):
        stream = Stream(tiny_model(), replace(plain, guidance_scale=scale))
        stream(frame)
        captured[scale] = stream._batch.prime(stream._latent).clone()  # type: ignore[union-attr]
        source = stream._latent
    assert torch.allclose(captured[2.0], 2 * captured[1.0] - source, atol=1e-3)
