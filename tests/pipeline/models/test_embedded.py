"""The real embedded model through the engine: what a user would see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline import SOLVERS, Model, Stream, StreamConfig, load_model
from tests.pipeline.pictures import psnr, sample_frame

BASE = StreamConfig(prompt="a watercolour painting", steps=2)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(device="cpu")


@pytest.fixture(scope="module")
def frame() -> torch.Tensor:
    return sample_frame()


def settled(model: Model, config: StreamConfig, frame: torch.Tensor) -> torch.Tensor:
    return Stream(model, config)(frame).image


CHANGES = [
    {"strength": 0.3},
    {"strength": 1.0},
    {"steps": 4},
    {"steps": 1},
    {"solver": "dpmpp-2m", "steps": 4},
    {"prompt": "a neon sign", "strength": 0.5, "seed": 5},
    {"guidance": "self-negative", "guidance_scale": 1.5},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_no_garbage_frame_while_settings_change(change: dict[str, object], model: Model, frame: torch.Tensor) -> None:
    """On a still scene every picture is near the old one, near the new one, or between the two."""
    after = replace(BASE, **change)  # type: ignore[arg-type]
    old, new = settled(model, BASE, frame), settled(model, after, frame)
    apart = float((old - new).square().mean().sqrt())
    stream = Stream(model, BASE)
    stream(frame)
    stream.configure(after)
    pictures = [stream(frame).image for _ in range(after.steps + 2)]
    for picture in pictures:
        nearest = min(float((picture - end).square().mean().sqrt()) for end in (old, new))
        assert nearest <= 0.5 * apart + 0.05
    assert psnr(pictures[-1], new) > 35


def test_every_solver_paints_the_same_scene(model: Model, frame: torch.Tensor) -> None:
    pictures = {solver: settled(model, replace(BASE, solver=solver, steps=4), frame) for solver in SOLVERS}
    for solver, picture in pictures.items():
        assert psnr(picture, pictures["lcm"]) > 20, solver


def test_an_empty_prompt_leaves_the_picture_alone(model: Model, frame: torch.Tensor) -> None:
    with torch.inference_mode():
        rebuilt = model.autoencoder.decode(model.autoencoder.encode(frame[None].to(model.dtype)).to(model.dtype))
    picture = settled(model, replace(BASE, prompt="", steps=1), frame)
    assert psnr(picture, frame) > psnr(rebuilt, frame) - 3


def test_styles_differ_and_strength_moves_away_from_the_input(model: Model, frame: torch.Tensor) -> None:
    styles = ("a pencil sketch", "neon lights", "a comic book", "van gogh")
    pictures = [settled(model, replace(BASE, prompt=style, steps=1), frame) for style in styles]
    for index, picture in enumerate(pictures):
        assert all(psnr(picture, other) < 25 for other in pictures[index + 1 :])
    distances = [
        psnr(settled(model, replace(BASE, prompt="neon lights", steps=1, strength=strength), frame), frame)
        for strength in (0.2, 0.6, 1.0)
    ]
    assert distances == sorted(distances, reverse=True)


def test_a_clip_that_holds_still_gives_a_picture_that_holds_still(model: Model, frame: torch.Tensor) -> None:
    stream = Stream(model, replace(BASE, steps=1))
    first = stream(frame).image
    assert all(torch.equal(stream(frame).image, first) for _ in range(3))
