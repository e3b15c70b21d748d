"""Stream Batch equals sequential denoising, and goes on doing so after every live change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch

from pipeline import GUIDANCE_KINDS, SOLVERS, SPACINGS, Stream, StreamConfig
from pipeline.diffusion.schedule import VariancePreserving, read_schedule
from tests.pipeline.reference import Reference
from tests.tiny_model import tiny_model

CLOSE = 1e-4
BASE = StreamConfig(
    prompt="a watercolour",
    negative_prompt="a photo",
    steps=3,
    strength=0.7,
    guidance="onetime-negative",
    guidance_scale=1.6,
    delta=0.8,
)


def frames(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """(count, 3, height, width): pictures that differ plainly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator)


def streamed(stream: Stream, clip: torch.Tensor, buffer: int = 1) -> dict[int, torch.Tensor]:
    """Every picture by its tag, the tail flushed; asserts that each frame came out once and in order."""
    outputs = [stream(group) for group in clip.split(buffer)] + stream.flush()
    shown = [output for output in outputs if not output.repeated]
    tags = [tag for output in shown for tag in output.tags]
    assert tags == sorted(set(tags))
    return {tag: image for output in shown for tag, image in zip(output.tags, output.image, strict=True)}


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), list(product([1, 2, 4], [1, 2, 3])))
def test_stream_batch_equals_sequential(steps: int, buffer: int, guidance: str) -> None:
    clip = frames(3 * buffer)
    for number, solver in enumerate(SOLVERS):
        # A UNet that sees the input latent in every other case: enough to cross both with everything else.
        model = tiny_model(sees_input=(steps + buffer + number) % 2 == 0)
        config = replace(BASE, steps=steps, guidance=guidance, solver=solver)
        pictures = streamed(Stream(model, config), clip, buffer)
        assert list(pictures) == list(range(len(clip)))
        reference = Reference(model, config)
        for index in (1, len(clip) - 1):
            assert torch.allclose(pictures[index], reference(clip[index]), atol=CLOSE), (solver, index)


@pytest.mark.parametrize("solver", ["dpm-3", "dpmpp-3m-taylor", "dpmpp-2s", "dpmpp-2m-sde", "unipc-3", "tcd"])
def test_history_and_anchor_travel_with_the_slot(solver: str) -> None:
    """Seven steps: whole singlestep groups of three, and third order in the middle of a multistep run."""
    model = tiny_model(True)
    config = replace(BASE, steps=7, solver=solver, guidance="self-negative")
    clip = frames(9)
    pictures = streamed(Stream(model, config), clip)
    reference = Reference(model, config)
    for index in (1, 4, 8):
        assert torch.allclose(pictures[index], reference(clip[index]), atol=CLOSE), index


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("channels", [3, 4, 16])
def test_every_prediction_type_and_latent_size(prediction_type: str, channels: int) -> None:
    model = tiny_model(False, prediction_type, channels)
    clip = frames(4, 24, 56)
    config = replace(BASE, steps=3, solver="dpmpp-2m", guidance="self-negative")
    pictures = streamed(Stream(model, config), clip)
    assert torch.allclose(pictures[3], Reference(model, config)(clip[3]), atol=CLOSE)


@pytest.mark.parametrize("solver", ["lcm", "dpmpp-2m", "dpm-2"])
def test_a_model_that_is_told_where_the_run_began(solver: str) -> None:
    known = tiny_model(True)
    assert isinstance(known.schedule, VariancePreserving)
    model = replace(known, schedule=replace(known.schedule, tells_start=True))
    config = replace(BASE, steps=3, solver=solver, guidance="onetime-negative")
    clip = frames(5)
    picture = streamed(Stream(model, config), clip)[4]
    assert torch.allclose(picture, Reference(model, config)(clip[4]), atol=CLOSE)
    assert not torch.allclose(picture, streamed(Stream(known, config), clip)[4], atol=CLOSE)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-3m", "dpm-2", "unipc-3", "lcm"])
def test_noise_levels_between_the_timesteps(solver: str) -> None:
    model = tiny_model(True)
    config = replace(BASE, steps=6, solver=solver, spacing="karras", guidance="self-negative")
    clip = frames(8)
    pictures = streamed(Stream(model, config), clip)
    reference = Reference(model, config)
    for index in (1, 7):
        assert torch.allclose(pictures[index], reference(clip[index]), atol=CLOSE), index


def test_timesteps_by_hand_are_told_the_model_and_nothing_else_is_looked_at() -> None:
    """The list of StreamDiffusion's own example, whatever steps, strength and spacing are."""
    model, clip = tiny_model(), frames(6)
    by_hand = replace(BASE, timesteps="559,359,199,99")
    stream = Stream(model, by_hand)
    pictures = streamed(stream, clip)
    assert len(clip) == len(pictures)
    others = replace(by_hand, steps=1, strength=0.2, spacing="karras")
    again = streamed(Stream(model, others), clip)
    for index, picture in pictures.items():
        assert torch.allclose(picture, Reference(model, by_hand)(clip[index]), atol=CLOSE), index
        assert torch.equal(again[index], picture)
    stream(clip[0])
    batch = stream._batch
    assert batch is not None
    assert batch.table.timesteps.tolist() == [559, 359, 199, 99]
    assert batch._whole.timesteps.tolist()[:4] == [559, 359, 199, 99]


def test_timesteps_that_the_model_does_not_know_are_refused_in_words() -> None:
    model = tiny_model()
    stream = Stream(model, BASE)
    words = "timesteps are '1000,500'; those of this model are whole numbers from 0 to 999"
    with pytest.raises(ValueError, match=words):
        stream.configure(replace(BASE, timesteps="1000,500"))
    assert stream.config == BASE
    with pytest.raises(ValueError, match=words):
        Stream(model, replace(BASE, timesteps="1000,500"))


@pytest.mark.parametrize("solver", ["dpmpp-2m", "lcm"])
def test_what_the_model_is_told_is_of_one_kind_in_every_spacing(solver: str) -> None:
    """So that no engine is built anew for a spacing that lies between the timesteps."""
    stream = Stream(tiny_model(), replace(BASE, solver=solver))
    told = []
    for spacing in SPACINGS:
        stream.configure(replace(BASE, solver=solver, spacing=spacing))
        stream(frames(1))
        assert stream._batch is not None
        told.append((stream._batch._whole.timesteps.dtype, stream._batch._whole.timesteps.shape))
    assert set(told) == {(torch.float32, torch.Size([4]))}


CHANGES = {
    "prompt": {"prompt": "a neon sign"},
    "negative prompt": {"negative_prompt": "grey"},
    "strength": {"strength": 0.4},
    "strength to one": {"strength": 1.0},
    "more steps": {"steps": 4},
    "one step": {"steps": 1},
    "solver": {"solver": "euler"},
    "solver and spacing": {"solver": "dpmpp-2m", "spacing": "karras"},
    "no guidance": {"guidance": "none"},
    "full guidance": {"guidance": "full"},
    "self-negative": {"guidance": "self-negative"},
    "scale": {"guidance_scale": 1.2},
    "rescale": {"guidance_rescale": 0.4},
    "delta": {"delta": 0.3},
    "tcd": {"solver": "tcd"},
    "timesteps by hand": {"timesteps": "559,359,199,99"},
    "fewer timesteps by hand": {"timesteps": "640,80"},
    "predictor and corrector": {"solver": "unipc-3", "steps": 4},
    "seed": {"seed": 7},
    "everything": {"prompt": "x", "strength": 0.9, "steps": 2, "solver": "ddim", "guidance": "full", "seed": 3},
}


@pytest.mark.parametrize("solver", ["lcm", "dpmpp-2s"])
@pytest.mark.parametrize("change", CHANGES)
def test_equal_again_after_each_live_change(change: str, solver: str) -> None:
    model = tiny_model(True)
    before = replace(BASE, solver=solver)
    after = replace(before, **CHANGES[change])
    clip = frames(12)
    stream = Stream(model, before)
    outputs = [stream(frame) for frame in clip[:4]]
    stream.configure(after)
    outputs += [stream(frame) for frame in clip[4:]]
    outputs += stream.flush()
    tags = [output.tags[0] for output in outputs]
    assert tags == sorted(tags), "a picture from the past came back"
    assert tags[-1] == len(clip) - 1
    assert all(bool(output.image.isfinite().all()) for output in outputs)
    reference = Reference(model, after)
    old = Reference(model, before)
    settled = [output for output in outputs if output.tags[0] >= 4]
    assert len({output.tags[0] for output in settled}) == 8
    for output in settled:
        frame = clip[output.tags[0]]
        assert torch.allclose(output.image[0], reference(frame), atol=CLOSE)
        assert not torch.allclose(output.image[0], old(frame), atol=10 * CLOSE), "the change changed nothing"


def test_how_much_noise_is_new_may_change_while_running() -> None:
    model, clip = tiny_model(), frames(10)
    before = replace(BASE, solver="tcd", tcd_gamma=0.1)
    after = replace(before, tcd_gamma=0.9)
    stream = Stream(model, before)
    for frame in clip[:4]:
        stream(frame)
    stream.configure(after)
    last = [stream(frame) for frame in clip[4:]][-1]
    assert torch.allclose(last.image[0], Reference(model, after)(clip[7]), atol=CLOSE)
    assert not torch.allclose(last.image[0], Reference(model, before)(clip[7]), atol=10 * CLOSE)


def test_toggling_back_and_forth_ends_where_it_began() -> None:
    model = tiny_model(True)
    stream, clip = Stream(model, BASE), frames(30)
    for index, frame in enumerate(clip[:20]):
        steps = (1, 4, 2, 3)[index % 4]
        stream.configure(replace(BASE, steps=steps, strength=0.3 + 0.1 * steps, solver=SOLVERS[index % 4]))
        stream(frame)
    stream.configure(BASE)
    last = [stream(frame) for frame in clip[20:]][-1]
    assert last.tags == (27,)
    assert torch.allclose(last.image[0], Reference(model, BASE)(clip[27]), atol=CLOSE)


def test_size_and_frame_buffer_may_change_between_two_frames() -> None:
    model = tiny_model(True)
    stream, reference = Stream(model, BASE), Reference(model, BASE)
    for clip in (frames(1), frames(1, 48, 24), frames(3, 48, 24), frames(2, 16, 16)):
        stream(clip)
        output = stream(clip)
        assert output.image.shape == clip.shape
        assert torch.allclose(output.image[-1], reference(clip[-1]), atol=CLOSE)


def test_no_warm_up_frame_is_ever_shown() -> None:
    """The very first output is finished: equal to sequential denoising of the first frame."""
    model = tiny_model()
    config = replace(BASE, steps=4)
    clip = frames(6)
    stream, reference = Stream(model, config), Reference(model, config)
    outputs = [stream(frame) for frame in clip]
    assert [output.tags[0] for output in outputs] == [0, 0, 0, 0, 1, 2]
    assert [output.repeated for output in outputs] == [False, True, True, True, False, False]
    for output in outputs[:4]:
        assert torch.allclose(output.image[0], reference(clip[0]), atol=CLOSE)


def test_fewer_steps_drop_the_oldest_frames_only_without_a_flush() -> None:
    model = tiny_model()
    clip = frames(8)
    stream = Stream(model, replace(BASE, steps=4))
    shown = [stream(frame) for frame in clip[:6]]
    shown += stream.flush()
    stream.configure(replace(BASE, steps=1))
    shown += [stream(frame) for frame in clip[6:]]
    assert [output.tags[0] for output in shown if not output.repeated] == list(range(8))


def test_self_negative_stays_bounded_over_300_frames() -> None:
    model = tiny_model(True)
    clip = frames(300, 16, 16)
    for steps in (1, 4):
        config = replace(BASE, steps=steps, guidance="self-negative", guidance_scale=2.0, delta=1.0)
        stream = Stream(model, config)
        last = [stream(frame) for frame in clip][-1]
        index = 300 - steps
        assert last.tags == (index,)
        assert torch.allclose(last.image[0], Reference(model, config)(clip[index]), atol=CLOSE)


def test_two_streams_on_one_model_do_not_touch_each_other() -> None:
    model, clip = tiny_model(), frames(4)
    configs = [replace(BASE, prompt="first", steps=1), replace(BASE, prompt="second", steps=1)]
    streams = [Stream(model, config) for config in configs]
    for frame in clip:
        for stream, config in zip(streams, configs, strict=True):
            assert torch.allclose(stream(frame).image[0], Reference(model, config)(frame), atol=CLOSE)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (torch.zeros(3, 30, 32), "32x30; width and height must be multiples of 8"),
        (torch.zeros(4, 32, 32), "must be float"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "must be float"),
        (torch.zeros(0, 3, 32, 32), "must be float"),
        (torch.zeros(32, 32), "must be float"),
    ],
)
def test_frames_of_the_wrong_kind_are_refused_and_do_no_harm(bad: torch.Tensor, expected: str) -> None:
    stream, clip = Stream(tiny_model(), replace(BASE, steps=2)), frames(3)
    stream(clip[0])
    with pytest.raises(ValueError, match=expected):
        stream(bad)
    stream(clip[1], tags=["b"])
    assert stream(clip[2]).tags == ("b",)
    with pytest.raises(ValueError, match="2 tags for 1 frames"):
        stream(clip[2], tags=[1, 2])


class ShortOnce:
    """Raises for a lack of memory at one call, and does as before at all others."""

    def __init__(self, call: Callable[..., object], at: int = 1) -> None:
        self.call, self.left = call, at

    def __call__(self, *given: object, **named: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.call(*given, **named)


@pytest.mark.parametrize("place", ["set_prompts", "set_guidance", "_change_table", "_set_guidance"])
@pytest.mark.parametrize("again", [True, False])
def test_a_change_that_memory_was_too_short_for_is_not_half_in_force(
    place: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip = tiny_model(), frames(8)
    wanted = replace(
        BASE, prompt="a neon sign", guidance="full", negative_prompt="grey", steps=2, seed=3, attention_guidance=3.0
    )
    stream = Stream(model, BASE)
    for frame in clip[:2]:
        stream(frame)
    owner = stream if place.startswith("_") else stream._denoiser
    monkeypatch.setattr(owner, place, ShortOnce(getattr(owner, place)))
    with pytest.raises(torch.OutOfMemoryError):
        stream.configure(wanted)
    assert stream.config == BASE
    if again:
        stream.configure(wanted)
    settled = [stream(frame) for frame in clip[2:]][-1]
    expected = [picture(frame) for picture in [Stream(model, wanted if again else BASE)] for frame in clip[2:]][-1]
    torch.testing.assert_close(settled.image, expected.image, atol=CLOSE, rtol=0)


def test_a_schedule_shorter_than_the_grid_of_few_step_models_is_run() -> None:
    model = tiny_model(True)
    short = replace(model, schedule=read_schedule({"num_train_timesteps": 20, "beta_schedule": "scaled_linear"}))
    assert model.grid == 50
    for solver in ("lcm", "ddim"):
        stream = Stream(short, replace(BASE, solver=solver, steps=2))
        assert bool(stream(frames(1)[0]).image.isfinite().all())
