"""Prompts as people write them: emphasis, several in one, and more than 77 tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline import Stream, StreamConfig
from pipeline.conditioning.prompt_syntax import blended, emphasis, mixture
from tests.tiny_model import tiny_model

LONG = "abc def ghi " * 12  # single characters are tokens here: 108 of them


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("(a (red:2) cat:0.5)", [("a ", 0.5), ("red", 1.0), (" cat", 0.5)]),
        (r"a \(cat\)", [("a (cat)", 1)]),
        ("(open", [("open", 1.1)]),
        ("closed)", [("closed)", 1)]),
        ("12:30 :) (a:b)", [("12:30 :) ", 1), ("a:b", 1.1)]),
        ("", [("", 1)]),
    ],
)
def test_emphasis(prompt: str, expected: list[tuple[str, float]]) -> None:
    found = emphasis(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


@hypothesis_settings(deadline=None)
@given(st.text("ab ()[]:\\.1-", max_size=30))
def test_nothing_that_is_typed_is_an_error(prompt: str) -> None:
    assert all(isinstance(weight, float) for _, weight in emphasis(prompt))
    assert sum(weight for _, weight in mixture(prompt)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ink", {"ink": 1.0}),
        ("ink::3 mosaic::1", {"ink": 0.75, "mosaic": 0.25}),
        ("ink:: mosaic", {"ink": 0.5, "mosaic": 0.5}),
        ("ink::0 mosaic", {"mosaic": 1.0}),
        ("ink::0", {"ink::0": 1.0}),
    ],
)
def test_several_prompts_in_one(prompt: str, expected: dict[str, float]) -> None:
    assert dict(mixture(prompt)) == pytest.approx(expected)


def test_a_blend_of_mixtures_shares_its_weights() -> None:
    assert dict(blended("ink::1 mosaic::1", "neon", 0.5)) == pytest.approx({"ink": 0.25, "mosaic": 0.25, "neon": 0.5})


def test_a_plain_prompt_is_encoded_as_the_tokenizer_says() -> None:
    prompts = tiny_model().prompts
    encoder = prompts.encoders[0]
    ids = encoder.tokenizer("a cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = encoder.module(ids).last_hidden_state
    assert torch.equal(prompts("a cat"), expected)


def test_emphasis_moves_its_token_away_from_the_empty_prompt() -> None:
    prompts = tiny_model().prompts
    plain, empty, strong = prompts("a cat"), prompts(""), prompts("a (cat:1.5)")
    torch.testing.assert_close(strong[:, 1], plain[:, 1])  # "a"
    torch.testing.assert_close(strong[:, 2:5], empty[:, 2:5] + 1.5 * (plain[:, 2:5] - empty[:, 2:5]))
    assert torch.equal(prompts("(a cat:1)"), plain)


def test_a_long_prompt_is_read_to_its_end() -> None:
    prompts = tiny_model().prompts
    assert prompts("x " * 75).shape[1] == 77
    long = prompts(LONG)
    assert long.shape[1] == 154
    assert not torch.allclose(long, prompts(LONG[:-2] + "z"), atol=1e-4)
    torch.testing.assert_close(long[:, :77], prompts("abc def ghi " * 8 + "abc"))  # the first 75 as they are alone


def test_long_and_short_prompts_stream_together() -> None:
    """As prompt and negative prompt, and blended: each is what it is alone."""
    frame = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    config = StreamConfig(prompt=LONG, negative_prompt="a", guidance="full", guidance_scale=2.0, prompt_b="ink")
    picture = Stream(tiny_model(), config)(frame).image
    assert bool(picture.isfinite().all())
    ends = [
        Stream(tiny_model(), StreamConfig(prompt=LONG, prompt_b="ink", blend=blend))(frame).image for blend in (0, 1)
    ]
    assert torch.equal(ends[1], Stream(tiny_model(), StreamConfig(prompt="ink"))(frame).image)
    near = Stream(tiny_model(), StreamConfig(prompt=LONG, prompt_b="ink", blend=0.999))(frame).image
    assert float((near - ends[1]).abs().max()) < 0.05 * float((ends[0] - ends[1]).abs().max()) + 1e-3
