"""A model that gives numbers which are not finite makes black pictures: the user is told why, once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline import Stream, StreamConfig
from pipeline.finite import EVERY, FiniteWatch
from pipeline.models.residency import DENOISER
from tests.tiny_model import new_tiny_model

CONFIG = StreamConfig(prompt="a", steps=2)


def frame() -> torch.Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_stream_tells_once_of_numbers_that_are_not_finite() -> None:
    model = new_tiny_model()
    stream = Stream(model, CONFIG)
    stream(frame())
    assert stream.news() == []
    with model.residency.changing(DENOISER), torch.no_grad():
        model.unet.conv_out.bias.fill_(torch.inf)
    for _ in range(2 * EVERY + 2):
        stream(frame())
    (told,) = stream.news()
    assert "not finite" in told
    assert "choose the number format float32" in told


def test_it_is_seen_at_once_after_a_change_of_settings() -> None:
    model = new_tiny_model()
    stream = Stream(model, CONFIG)
    stream(frame())
    with model.residency.changing(DENOISER), torch.no_grad():
        model.unet.conv_out.bias.fill_(torch.nan)
    stream.configure(replace(CONFIG, seed=1))
    for _ in range(2):
        stream(frame())
    assert len(stream.news()) == 1


@pytest.mark.parametrize("bad", ["latent", "picture"])
def test_both_latent_and_picture_are_looked_at_and_a_recovery_is_noticed(bad: str) -> None:
    watch, sound = FiniteWatch(), {"latent": torch.zeros(1, 4, 4, 4), "picture": torch.zeros(1, 3, 32, 32)}
    ill = {**sound, bad: sound[bad] + torch.inf}
    for looked_at, told in ((ill, 1), (ill, 0), (sound, 0), (ill, 1)):
        watch.restart()
        watch.look(looked_at["latent"], looked_at["picture"])
        assert len(watch.news()) == told
