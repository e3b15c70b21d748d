"""Numbers that are not finite are noticed on their way to a picture, whatever brought them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline import Stream, StreamConfig
from pipeline.finite import EVERY, FiniteWatch
from pipeline.models.residency import DENOISER
from tests.tiny_model import new_tiny_model, tiny_model, unet_of


def looked_at(watch: FiniteWatch, value: float, times: int = 1) -> list[str]:
    picture = torch.full((1, 3, 32, 32), value)
    for _ in range(times):
        watch.look(torch.zeros(1, 4, 4, 4), picture)
    return watch.news()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_it_is_told_once_until_it_is_over(value: float) -> None:
    watch = FiniteWatch()
    assert looked_at(watch, 0.5) == []
    (news,) = looked_at(watch, value, EVERY)
    assert "numbers that are not finite" in news
    assert looked_at(watch, value, 3 * EVERY) == []
    assert looked_at(watch, 0.5, EVERY) == []
    assert len(looked_at(watch, value, EVERY)) == 1


def test_a_latent_counts_as_well_as_a_picture() -> None:
    watch = FiniteWatch()
    watch.look(torch.full((1, 4, 4, 4), float("nan")), torch.zeros(1, 3, 32, 32))
    assert len(watch.news()) == 1


def test_few_pictures_are_looked_at() -> None:
    watch, asked = FiniteWatch(), []

    class Counted:
        device = torch.device("cpu")

        def isfinite(self) -> torch.Tensor:
            asked.append(1)
            return torch.tensor(True)

        def __getitem__(self, _: object) -> Counted:
            return self

    for _ in range(4 * EVERY):
        watch.look(Counted(), Counted())  # type: ignore[arg-type]
    assert len(asked) == 2 * 4


def test_a_stream_says_what_its_weights_have_become() -> None:
    model = new_tiny_model()
    stream, frame = Stream(model, StreamConfig(prompt="a")), torch.rand(3, 32, 32)
    stream(frame)
    assert stream.news() == []
    with model.residency.changing(DENOISER), torch.no_grad():
        unet_of(model).conv_in.weight[0, 0, 0, 0] = float("nan")
    for _ in range(EVERY):
        stream(frame)
    assert len(stream.news()) == 1


def test_a_frame_that_is_not_finite_is_noticed_and_told_again_after_a_change() -> None:
    config = StreamConfig(prompt="a")
    stream, bad = Stream(tiny_model(), config), torch.full((3, 32, 32), float("nan"))
    stream(bad)
    assert len(stream.news()) == 1
    stream.configure(replace(config, prompt="b"))
    stream(bad)
    assert len(stream.news()) == 1


def test_the_end_of_a_file_is_always_looked_at() -> None:
    stream = Stream(tiny_model(), StreamConfig(prompt="a", steps=2))
    for _ in range(3):
        stream(torch.rand(3, 32, 32))
    stream(torch.full((3, 32, 32), float("nan")))
    stream.flush()
    assert len(stream.news()) == 1


@pytest.mark.parametrize("prompt", [f"(a:{'9' * 400})", "(" * 800 + "a", f"a::{'9' * 400} b", "[" * 800 + "a"])
def test_no_emphasis_that_can_be_typed_is_too_much(prompt: str) -> None:
    stream = Stream(tiny_model(), StreamConfig(prompt=prompt))
    assert bool(stream(torch.rand(3, 32, 32)).image.isfinite().all())
    assert stream.news() == []


def test_a_prompt_that_is_no_text_is_read_as_something() -> None:
    frame = torch.rand(3, 32, 32)
    found = Stream(tiny_model(), StreamConfig(prompt="caf\udce9"))(frame).image
    assert torch.equal(found, Stream(tiny_model(), StreamConfig(prompt="caf?"))(frame).image)
