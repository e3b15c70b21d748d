"""A second prompt, blends and timed transitions: linear, exact at both ends, the same for the same frame times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline import Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.embedding import MOST_TOKENS, Embedding, combine, common_length, repeated
from pipeline.conditioning.prompt_travel import PromptTravel
from pipeline.denoiser import Denoiser
from pipeline.diffusion.noise import blended_noise, seeded_noise, slerp
from tests.tiny_model import tiny_model

BASE = StreamConfig(prompt="ink", prompt_b="a mosaic", steps=2, strength=0.9)


def frame(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed))


def settled(config: StreamConfig) -> torch.Tensor:
    return Stream(tiny_model(True), config)(frame()).image


def test_a_blend_is_exact_at_both_ends_and_between_them_in_the_middle() -> None:
    ink, mosaic = settled(replace(BASE, prompt_b="")), settled(replace(BASE, prompt="a mosaic"))
    assert torch.equal(settled(replace(BASE, blend=0.0)), ink)
    assert torch.equal(settled(replace(BASE, blend=1.0)), mosaic)
    quarter, half = settled(replace(BASE, blend=0.25)), settled(replace(BASE, blend=0.5))
    steps = [float((b - a).abs().mean()) for a, b in ((ink, quarter), (quarter, half), (half, mosaic))]
    assert all(step > 1e-4 for step in steps)
    assert float((half - ink).abs().mean()) < float((mosaic - ink).abs().mean())


@torch.inference_mode()
def test_blended_keys_and_values_are_those_of_the_blended_embedding() -> None:
    model = tiny_model()
    denoiser, rows = (
        Denoiser(model, EagerBackend(model)),
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
    )
    denoiser.set_prompts((("ink", 0.3), ("a mosaic", 0.7)))
    blended = denoiser(rows, torch.tensor([500]), ((0, 1),))
    embedding = 0.3 * model.prompts("ink") + 0.7 * model.prompts("a mosaic")
    expected = model.unet(rows, torch.tensor([500]), embedding).sample
    torch.testing.assert_close(blended, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_blend_that_moves_computes_no_projection() -> None:
    model, calls = tiny_model(), []
    layers = [module for name, module in model.unet.named_modules() if name.endswith("attn2.to_k")]
    hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers]
    stream = Stream(model, replace(BASE, blend=0.1))
    stream(frame())
    before = len(calls)
    for blend in (0.2, 0.6, 0.9):
        stream.configure(replace(BASE, blend=blend))
        stream(frame())
    for hook in hooks:
        hook.remove()
    assert before > 0
    assert len(calls) == before


def transition(times: list[float], first: StreamConfig, then: StreamConfig) -> list[torch.Tensor]:
    """Pictures at ``times``; the settings change after the first."""
    stream = Stream(tiny_model(), first)
    pictures = [stream(frame(), at=times[0]).image]
    stream.configure(then)
    return pictures + [stream(frame(), at=time).image for time in times[1:]]


@pytest.mark.parametrize("negative", ["none", "full"])
def test_a_transition_takes_its_time_and_ends_exactly(negative: str) -> None:
    base = replace(BASE, steps=1, transition=2.0, guidance=negative, guidance_scale=1.3)
    turned = replace(base, prompt="a mosaic")
    pictures = transition([10, 10.5, 11, 11.5, 12, 12.5], base, turned)
    old, new = pictures[0], Stream(tiny_model(), turned)(frame()).image
    quarter = Stream(tiny_model(), replace(base, blend=0.25, transition=0.0))(frame()).image
    torch.testing.assert_close(pictures[1], quarter, atol=1e-4, rtol=0)
    distances = [float((picture - new).abs().mean()) for picture in pictures[:5]]
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == 5
    assert torch.equal(pictures[4], new)
    assert torch.equal(pictures[5], new)
    assert not torch.allclose(old, new, atol=1e-3)


def test_a_transition_depends_on_frame_times_alone() -> None:
    turned = replace(BASE, steps=1, transition=2.0, blend=0.8)
    begin = replace(turned, blend=0.0)
    many = transition([0, 0.25, 0.5, 0.75, 1.0], begin, turned)
    few = transition([5, 6.0], begin, turned)
    assert torch.equal(many[-1], few[-1])
    assert all(
        torch.equal(a, b) for a, b in zip(many, transition([0, 0.25, 0.5, 0.75, 1.0], begin, turned), strict=True)
    )


def test_an_interrupted_transition_goes_on_from_where_it_is() -> None:
    first = replace(BASE, steps=1, transition=4.0)
    stream = Stream(tiny_model(), first)
    stream(frame(), at=0.0)
    stream.configure(replace(first, prompt="a mosaic"))
    halfway = stream(frame(), at=2.0).image
    stream.configure(replace(first, prompt="neon"))
    same = stream(frame(), at=2.0).image
    torch.testing.assert_close(same, halfway, atol=1e-4, rtol=0)
    for time in (3.0, 4.0, 5.0):
        stream(frame(), at=time)
    end = stream(frame(), at=6.0).image
    assert torch.equal(end, Stream(tiny_model(), replace(first, prompt="neon"))(frame()).image)


def test_a_still_scene_is_not_skipped_while_the_prompt_travels() -> None:
    config = replace(BASE, steps=1, transition=1.0, similarity_filter=True, similarity_threshold=0.5)
    stream = Stream(tiny_model(), config)
    stream(frame(), at=0.0)
    assert stream(frame(), at=0.1).skipped
    stream.configure(replace(config, prompt="a mosaic"))
    outputs = [stream(frame(), at=0.1 + 0.2 * step) for step in range(1, 8)]
    assert [output.skipped for output in outputs[:4]] == [False] * 4
    assert outputs[-1].skipped
    expected = Stream(tiny_model(), replace(config, prompt="a mosaic"))(frame()).image
    torch.testing.assert_close(outputs[-1].image, expected, atol=1e-5, rtol=0)


def test_a_clock_that_steps_back_does_not_stop_a_transition() -> None:
    travel = PromptTravel()
    one, two = (Embedding(torch.full((1, 2, 3), value)) for value in (1.0, 2.0))
    travel.head_for([(one, 1.0)], 1.0)
    travel.advance(100.0)
    travel.head_for([(two, 1.0)], 1.0)
    for time in (100.5, 3.0, 3.4):
        assert travel.advance(time) or time == 3.0
        assert travel.moving
    travel.advance(3.5 + 1e-9)
    assert not travel.moving
    assert combine([source.tokens for source in travel.sources], travel.weights) is two.tokens


def test_without_times_a_frame_is_a_thirtieth_of_a_second() -> None:
    travel = PromptTravel()
    one, two = (Embedding(torch.full((1, 2, 3), value)) for value in (1.0, 2.0))
    travel.head_for([(one, 1.0)], 0.0)
    travel.advance(frames=2)
    travel.head_for([(two, 1.0)], 0.2)
    taken = 0
    while travel.moving:
        travel.advance(frames=2)
        taken += 1
    assert taken == 3


def test_prompts_of_another_length_are_mixed_without_changing_either() -> None:
    """Keys and values that are all there twice give the same attention."""
    query, short = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 3, 4)
    attend = torch.nn.functional.scaled_dot_product_attention
    doubled = combine([short, torch.zeros(1, 2, 6, 4)], [1.0 - 1e-9, 1e-9])
    assert doubled.shape == (1, 2, 6, 4)
    torch.testing.assert_close(attend(query, doubled, doubled), attend(query, short, short), atol=1e-5, rtol=0)


def test_seeds_blend_along_the_arc() -> None:
    shape = (4, 32, 32)
    first, second = seeded_noise(1, 2, shape), seeded_noise(2, 2, shape)
    assert torch.equal(blended_noise(1, 2, 0.0, 2, shape), first)
    assert torch.equal(blended_noise(1, 2, 1.0, 2, shape), second)
    for share in (0.2, 0.5, 0.9):
        assert 0.97 < float(blended_noise(1, 2, share, 2, shape).std()) < 1.03
    half = blended_noise(1, 2, 0.5, 2, shape)
    similar = torch.nn.functional.cosine_similarity
    assert (
        float((similar(half.flatten(), first.flatten(), 0) - similar(half.flatten(), second.flatten(), 0)).abs()) < 0.02
    )
    torch.testing.assert_close(slerp(first, first, 0.3), first)


def test_a_seed_blend_changes_the_picture_and_ends_exactly() -> None:
    base = replace(BASE, seed=1, seed_b=2)
    pictures = [settled(replace(base, seed_blend=share)) for share in (0.0, 0.5, 1.0)]
    assert torch.equal(pictures[0], settled(replace(base, seed_b=0)))
    assert torch.equal(pictures[2], settled(replace(base, seed=2, seed_b=0)))
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-3)


def test_another_guidance_or_negative_prompt_starts_no_transition() -> None:
    """A picture that goes from a prompt to the same prompt goes nowhere; one under way is not started again."""
    config = replace(BASE, steps=1, transition=4.0, guidance="full", guidance_scale=1.3)
    stream = Stream(tiny_model(), config)
    stream(frame(), at=0.0)
    travel = stream._denoiser._prompts.travel
    stream.configure(replace(config, negative_prompt="grey"))
    assert not travel.moving
    stream.configure(replace(config, negative_prompt="grey", guidance="onetime-negative"))
    assert not travel.moving
    turned = replace(config, prompt="neon")
    stream.configure(turned)
    stream(frame(), at=2.0)
    stream.configure(replace(turned, guidance="none"))
    stream(frame(), at=4.0)
    assert not travel.moving, "four seconds after it began, as before"


def test_prompts_of_many_lengths_stay_within_bounds() -> None:
    """Each length is a network of its own to a compiler, and interrupted transitions multiply lengths."""
    travel = PromptTravel()
    travel.advance(0.0)
    longest = 0
    for step, chunks in enumerate((2, 3, 5, 7, 11, 13), start=1):
        travel.head_for([(Embedding(torch.full((1, 77 * chunks, 2), float(chunks))), 1.0)], 2.0)
        travel.advance(float(step))
        longest = max(longest, combine([one.tokens for one in travel.sources], travel.weights).shape[1])
    assert longest <= MOST_TOKENS
    assert common_length([2 * 77, 3 * 77]) == 6 * 77, "exact where it can be"
    assert common_length([30 * 77, 77]) == 30 * 77, "one long prompt is never cut"
    assert repeated(torch.arange(3.0).view(1, 3, 1), 7).flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
