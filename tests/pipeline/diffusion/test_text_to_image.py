"""Pictures of words alone: as sequential denoising and as diffusers makes them, from seeds that stay, walk or swing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from pipeline import SPACINGS, Stream, StreamConfig
from pipeline.diffusion.text_to_image import SeedPath, colours, prompt_share, starting_noise
from tests.pipeline.reference import Reference, scheduler_of
from tests.pipeline.test_stream import CLOSE, frames, streamed
from tests.tiny_model import tiny_model, unet_of

WORDS = StreamConfig(
    prompt="a watercolour",
    negative_prompt="a photo",
    text_to_image=True,
    seed_travel="walk",
    travel_frames=3,
    seed=5,
    strength=0.3,  # of an input picture, which there is none of
    guidance_scale=1.6,
    delta=0.8,
)
SHAPE = (4, 4, 4)
BLANK = torch.zeros(3, 32, 32)


def noise_of(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def arc(first: int, second: int, share: float) -> torch.Tensor:
    """The spherical interpolation between two seeds' noise."""
    a, b = noise_of(first).double(), noise_of(second).double()
    angle = math.acos(float((a * b).sum() / (a.norm() * b.norm())))
    return ((math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)).float()


def walked(index: int, config: StreamConfig = WORDS) -> torch.Tensor:
    """The noise that picture ``index`` of a walk starts from."""
    leg, done = divmod(index, config.travel_frames)
    return arc(config.seed + leg, config.seed + leg + 1, done / config.travel_frames)


@pytest.mark.parametrize(
    ("steps", "buffer", "guidance", "solvers"),
    [
        (1, 1, "none", ("lcm", "ddim")),
        (1, 2, "onetime-negative", ("lcm", "ddim")),
        (4, 1, "onetime-negative", ("lcm", "ddim", "dpmpp-3m", "dpmpp-2s", "dpmpp-2m-sde")),
        (2, 3, "full", ("lcm", "dpm-2")),
    ],
)
def test_stream_batch_equals_sequential(steps: int, buffer: int, guidance: str, solvers: tuple[str, ...]) -> None:
    model = tiny_model()
    for solver in solvers:
        config = replace(WORDS, steps=steps, guidance=guidance, solver=solver)
        pictures = streamed(Stream(model, config), BLANK.expand(6, 3, 32, 32), buffer)
        assert list(pictures) == list(range(6))
        reference = Reference(model, config)
        for index in (0, 4):
            assert torch.allclose(pictures[index], reference.of_words(walked(index)), atol=CLOSE), (solver, index)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_picture_equals_that_of_diffusers_pipeline(guidance_scale: float) -> None:
    model = tiny_model()
    config = replace(WORDS, steps=5, solver="dpmpp-2m", seed_travel="hold")
    config = replace(config, guidance="full", guidance_scale=guidance_scale, guidance_rescale=0.0)
    ours = streamed(Stream(model, config), BLANK.expand(2, 3, 32, 32))
    unet, autoencoder = UNet2DConditionModel.from_config(unet_of(model).config), model.autoencoder.module
    assert isinstance(unet, UNet2DConditionModel)
    unet.load_state_dict(model.unet.state_dict())
    theirs = StableDiffusionPipeline(
        vae=autoencoder,  # type: ignore[arg-type]  # a tiny one
        text_encoder=None,  # type: ignore[arg-type]
        tokenizer=None,  # type: ignore[arg-type]
        unet=unet.eval(),
        scheduler=scheduler_of("dpmpp-2m", timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt_embeds=model.prompts(config.prompt),
        negative_prompt_embeds=model.prompts(config.negative_prompt),
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    ).images[0]  # type: ignore[union-attr]
    assert isinstance(expected, torch.Tensor)
    for picture in ours.values():
        assert torch.allclose(picture, expected, atol=CLOSE)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 3])
def test_noise_alone_is_given_where_there_is_no_signal(steps: int, spacing: str) -> None:
    """The model is told the end of its schedule, whatever the spacing and the strength."""
    model = tiny_model()
    stream = Stream(model, replace(WORDS, steps=steps, spacing=spacing, solver="ddim"))
    told: list[list[int]] = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: told.append(args[1].tolist()))
    try:
        stream(BLANK)
        stream(BLANK)
    finally:
        hook.remove()
    assert told[0] == [999]
    assert told[-1][0] == 999
    of_a_picture = Stream(model, replace(stream.config, text_to_image=False, strength=0.6))
    of_a_picture(BLANK)
    assert int(of_a_picture._batch.table.timesteps[0]) < 600  # type: ignore[union-attr]


def noises(config: StreamConfig, count: int) -> list[torch.Tensor]:
    """What the first ``count`` pictures start from."""
    path = SeedPath()
    return [starting_noise(config, *path.step(config), SHAPE)[0] for _ in range(count)]


def test_a_walk_meets_every_seed_exactly_and_keeps_the_variance() -> None:
    config = replace(WORDS, travel_frames=4)
    way = noises(config, 13)
    for leg in range(4):
        assert torch.equal(way[4 * leg], noise_of(5 + leg))
    assert torch.allclose(way[6], arc(6, 7, 0.5), atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(way, noises(config, 13), strict=True))
    path = SeedPath()
    large = [starting_noise(config, *path.step(config), (4, 64, 64)) for _ in range(9)]
    assert all(abs(float(noise.var()) - 1) < 0.02 for noise in large)
    # A straight line would lose half of it midway.
    assert float(((large[0] + large[4]) / 2).var()) < 0.6


def test_a_swing_comes_back_and_a_walk_goes_on_past_the_last_seed() -> None:
    swing = noises(replace(WORDS, seed_travel="swing", seed=5, seed_b=9, travel_frames=2), 5)
    for noise, expected in zip(
        swing, (noise_of(5), arc(5, 9, 0.5), noise_of(9), arc(9, 5, 0.5), noise_of(5)), strict=True
    ):
        assert torch.allclose(noise, expected, atol=1e-6)
    last = noises(replace(WORDS, seed=2**31 - 1, travel_frames=1), 2)
    assert torch.equal(last[1], noise_of(0))


def test_holding_shows_the_blend_of_the_two_seeds() -> None:
    held = noises(replace(WORDS, seed_travel="hold", seed_b=9, seed_blend=0.5), 2)
    assert torch.equal(held[0], held[1])
    assert torch.allclose(held[0], arc(5, 9, 0.5), atol=1e-6)


def test_another_pace_goes_on_from_where_it_is() -> None:
    path = SeedPath()
    slow, fast = replace(WORDS, travel_frames=10), replace(WORDS, travel_frames=4)
    places = [path.step(slow) for _ in range(5)]  # the next is halfway
    places += [path.step(fast) for _ in range(3)]
    assert places[-4:] == [(0, 0.4), (0, 0.5), (0, 0.75), (1, 0.0)]
    assert path.step(slow) == (1, 0.2)  # a quarter of a leg was done; of ten steps, two


def test_prompts_travel_too() -> None:
    model = tiny_model()
    config = replace(WORDS, seed_travel="hold", prompt_b="a neon sign", prompt_travel=True, travel_frames=4)
    pictures = streamed(Stream(model, config), BLANK.expand(9, 3, 32, 32))
    first = Reference(model, config).of_words(noise_of(5))
    second = Reference(model, replace(config, prompt="a neon sign")).of_words(noise_of(5))
    assert not torch.allclose(first, second, atol=20 * CLOSE)
    for index, expected in ((0, first), (4, second), (8, first)):
        assert torch.allclose(pictures[index], expected, atol=CLOSE), index
    halfway = Stream(model, replace(config, prompt_travel=False, blend=0.5))(BLANK).image[0]
    assert torch.allclose(pictures[2], halfway, atol=CLOSE)
    assert torch.allclose(pictures[6], halfway, atol=CLOSE)
    assert [prompt_share(leg, 0.25) for leg in range(4)] == [0.25, 0.75, 0.25, 0.75]


def test_a_model_that_sees_its_input_is_given_drifting_colours() -> None:
    model = tiny_model(True)
    config = replace(WORDS, steps=2, guidance="onetime-negative")
    pictures = streamed(Stream(model, config), BLANK.expand(4, 3, 32, 32))
    reference, path = Reference(model, config), SeedPath()
    inputs = [colours(config, *path.step(config), 32, 32)[0] for _ in range(4)]
    for index, drawn in enumerate(inputs):
        assert torch.allclose(pictures[index], reference(drawn), atol=CLOSE), index
    assert all(0 <= float(drawn.min()) < 0.3 and 0.7 < float(drawn.max()) <= 1 for drawn in inputs)
    assert not torch.allclose(inputs[0], inputs[1], atol=0.02)


CHANGES = {
    "fewer steps": {"steps": 1},
    "more steps": {"steps": 6},
    "solver": {"solver": "dpmpp-2s"},
    "renoising solver": {"solver": "lcm"},
    "spacing": {"spacing": "karras"},
    "prompt": {"prompt": "a neon sign"},
    "guidance": {"guidance": "full"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_live_changes(change: str) -> None:
    """The way goes on, frames in flight keep the noise that is theirs, and what enters after is as it should be."""
    model = tiny_model()
    config = replace(WORDS, steps=4, solver="dpmpp-2m", travel_frames=30)
    after = replace(config, **CHANGES[change])
    stream = Stream(model, config)
    shown = [stream(BLANK) for _ in range(6)]
    stream.configure(after)
    shown += [stream(BLANK) for _ in range(8)] + stream.flush()
    pictures = {output.tags[0]: output.image[0] for output in shown}
    reference = Reference(model, after)
    for index in (6, 9, 13):
        assert torch.allclose(pictures[index], reference.of_words(walked(index, after)), atol=CLOSE), index
    # Those in flight lie between neighbours that differ little: noise of another seed would show.
    for index in pictures.keys() & {3, 4, 5}:
        apart = (pictures[index] - Reference(model, config).of_words(walked(index, config))).abs().mean()
        settled = reference.of_words(walked(index, after)) - Reference(model, config).of_words(walked(index, config))
        assert float(apart) < float(settled.abs().mean()) + 0.05, index


def test_turning_it_on_and_off_while_running() -> None:
    model = tiny_model()
    clip = frames(9)
    pictured = replace(WORDS, text_to_image=False, steps=2, solver="ddim", strength=0.7)
    stream = Stream(model, pictured)
    for frame in clip[:3]:
        stream(frame)
    stream.configure(replace(pictured, text_to_image=True))
    worded = [stream(frame) for frame in clip[3:6]]
    assert [output.tags[0] for output in worded] == [3, 3, 4]
    reference = Reference(model, replace(pictured, text_to_image=True))
    assert torch.allclose(worded[2].image[0], reference.of_words(walked(1)), atol=CLOSE)
    stream.configure(pictured)
    back = [stream(frame) for frame in clip[6:]]
    assert torch.allclose(back[2].image[0], Reference(model, pictured)(clip[7]), atol=CLOSE)


def test_a_new_source_starts_the_way_again_and_a_flush_does_not() -> None:
    stream = Stream(tiny_model(), replace(WORDS, travel_frames=10))
    first = [stream(BLANK).image for _ in range(3)]
    stream.flush()
    assert not torch.allclose(stream(BLANK).image, first[0], atol=CLOSE)
    stream.reset()
    assert torch.equal(stream(BLANK).image, first[0])


def test_the_similarity_filter_has_nothing_to_compare() -> None:
    stream = Stream(tiny_model(), replace(WORDS, similarity_filter=True, similarity_threshold=0.0))
    assert not any(stream(BLANK).skipped for _ in range(5))


def test_self_negative_guidance_is_refused_with_the_reason() -> None:
    bad = replace(WORDS, guidance="self-negative")
    with pytest.raises(ValueError, match="moves away from the input picture, and text to image has none"):
        Stream(tiny_model(), bad)
    stream = Stream(tiny_model(), WORDS)
    stream(BLANK)
    with pytest.raises(ValueError, match="choose onetime-negative, full or none"):
        stream.configure(bad)
    assert stream.config == WORDS
    assert torch.allclose(stream(BLANK).image[0], Reference(tiny_model(), WORDS).of_words(walked(1)), atol=CLOSE)
