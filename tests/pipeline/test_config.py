"""Settings: every line has a range and a help text, and a bad value is one sentence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipeline import StreamConfig
from pipeline.backdrop import Backdrop, Behind, parse_backdrop
from pipeline.setting import Cost, cost_of_change, described
from pipeline.shape_list import Shape, parse_shapes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"strength": 1.7}, "strength is 1.7; it must be between 0.05 and 1"),
        ({"strength": math.nan}, "strength is nan; it must be between 0.05 and 1"),
        ({"strength": -math.inf}, "strength is -inf; it must be between"),
        ({"strength": "much"}, "strength is 'much'; it must be a number"),
        ({"steps": 0}, "steps is 0; it must be between 1 and 50"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"solver": "heun"}, "solver is 'heun'; it must be one of lcm"),
        ({"prompt": None}, "prompt is None; it must be a text"),
        ({"similarity_filter": 1}, "similarity filter is 1; it must be a yes or no"),
        ({"seed": -1}, "seed is -1; it must be between 0 and"),
        ({"timesteps": "559,359,399"}, "timesteps are '559,359,399'; they must be whole numbers from 0 to 1000 with"),
        ({"timesteps": "559,559"}, "each less than the one before"),
        ({"timesteps": "5.5,1"}, "timesteps are '5.5,1'; they must be whole numbers"),
        ({"timesteps": "-1"}, "timesteps are '-1'"),
        ({"timesteps": "1001,5"}, "timesteps are '1001,5'"),
        ({"timesteps": "5,,1,"}, "timesteps are '5,,1,'"),
        ({"timesteps": "all"}, "timesteps are 'all'"),
        ({"timesteps": "\u0665"}, "timesteps are"),
        ({"timesteps": ",".join(map(str, range(60, 9, -1)))}, "timesteps are 51 in number; there can be 50 at most"),
        ({"loras": "a:99"}, "strength of a is 99; it must be between -10 and 10"),
    ],
)
def test_a_bad_value_is_one_sentence(change: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")):
        replace(StreamConfig(), **change)  # type: ignore[arg-type]


def test_every_field_is_described_and_its_default_is_valid() -> None:
    names = [name for name, _, _ in described(StreamConfig)]
    assert names == list(StreamConfig.__dataclass_fields__)
    for _, kind, known in described(StreamConfig):
        assert known.help
        assert kind is str or kind is bool or known.choices or (known.low is not None and known.high is not None)


def test_timesteps_by_hand_stand_in_for_the_number_of_steps() -> None:
    config = StreamConfig(steps=2, timesteps="559, 359 199,99")
    assert config.timestep_list == (559, 359, 199, 99)
    assert config.step_count == 4
    assert StreamConfig(steps=2, timesteps="  ").step_count == StreamConfig(steps=2).step_count == 2
    assert config.unknown_timesteps(range(1000)) is None
    assert config.unknown_timesteps(range(500)) == (
        "timesteps are '559, 359 199,99'; those of this model are whole numbers from 0 to 499"
    )


def test_a_whole_number_is_fine_where_a_number_is_asked_for() -> None:
    assert StreamConfig(strength=1).strength == 1


@pytest.mark.parametrize(
    ("change", "cost"),
    [
        ({}, Cost.NOTHING),
        ({"guidance_scale": 2.0}, Cost.NOTHING),
        ({"strength": 0.5}, Cost.TABLES),
        ({"prompt": "x", "strength": 0.5}, Cost.PROMPT),
        ({"steps": 4, "prompt": "x"}, Cost.SLOTS),
        ({"timesteps": "9,5"}, Cost.SLOTS),
    ],
)
def test_the_cost_of_a_change_is_that_of_its_dearest_setting(change: dict[str, object], cost: Cost) -> None:
    assert cost_of_change(StreamConfig(), replace(StreamConfig(), **change)) is cost  # type: ignore[arg-type]


def test_a_shape_is_a_hint_with_a_weight_and_a_model() -> None:
    text = 'canny:0.8; depth @ "a;b.safetensors"\nsoft-edge: .5 @ org/name; mask'
    assert parse_shapes(text) == (
        Shape("canny", 0.8),
        Shape("depth", 1.0, "a;b.safetensors"),
        Shape("soft-edge", 0.5, "org/name"),
        Shape("mask"),
    )
    assert parse_shapes(" ; ") == ()


@pytest.mark.parametrize("text", ["canny:", "hed", "canny:2.1", "canny:-1", "canny @", "canny:nan", "@ x", "canny 0.8"])
def test_a_shape_of_another_form_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(keep shape|the weight of canny) is .*; it must be"):
        StreamConfig(keep_shape=text)


def test_a_background_is_a_word_a_colour_or_a_file() -> None:
    assert parse_backdrop(" ") == Backdrop()
    assert parse_backdrop("none") == Backdrop(Behind.NOTHING)
    assert parse_backdrop("blur") == Backdrop(Behind.BLUR, blur=12.0)
    assert parse_backdrop("blur:20") == Backdrop(Behind.BLUR, blur=20.0)
    assert parse_backdrop("green") == parse_backdrop("#00FF00") == Backdrop(Behind.COLOUR, colour=(0, 255, 0))
    assert parse_backdrop("C:\\room.png") == Backdrop(Behind.PICTURE, path="C:\\room.png")


@pytest.mark.parametrize("text", ["#12", "#gggggg", "blur:0", "blur:x", "blur:1e9", "blur:nan"])
def test_a_background_that_is_none_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^background .*; (it|a colour) must be"):
        StreamConfig(background=text)
