"""What a stream does with frames that the similarity filter skips: it spares calls, and loses no picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from pipeline import Output, Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.diffusion.similarity import SimilarityFilter
from tests.alike import alike
from tests.pipeline.backends.calls import RecordingBackend
from tests.tiny_model import tiny_model

CLOSE = 1e-4
BASE = StreamConfig(prompt="ink", strength=0.7, similarity_filter=True)


def counting(config: StreamConfig) -> tuple[Stream, RecordingBackend]:
    """A stream, and what tells of its calls."""
    model = tiny_model()
    backend = RecordingBackend(EagerBackend(model))
    return Stream(model, config, backend), backend


def pictures(seed: int, count: int, buffer: int = 1) -> list[torch.Tensor]:
    """``count`` groups of frames that are nothing like each other."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(count, buffer, 3, 32, 32, generator=generator))


def shown(outputs: Sequence[Output]) -> list[tuple[int, torch.Tensor]]:
    """Every frame's tag with its picture, as they come."""
    found: list[tuple[int, torch.Tensor]] = []
    for output in outputs:
        if not output.repeated:
            for tags in (output.tags, *output.followers):
                found += zip(tags, output.image, strict=True)
    return found


@pytest.mark.parametrize("cap", [10, 10_000])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(("likelihood", "least"), [(0.5, 0.45), (0.75, 0.65), (0.9, 0.8)])
def test_the_filter_spares_the_calls_that_it_promises(likelihood: float, least: float, steps: int, cap: int) -> None:
    """All frames are equally like each other, as in a slow scene; skipping saves as much with T frames in flight."""
    stream, backend = counting(replace(BASE, steps=steps, similarity_skip_cap=cap))
    frames, count = alike(likelihood, 60), 240
    stream(frames[0])
    before = len(backend.shapes("denoiser"))
    for number in range(1, count + 1):
        stream(frames[number % len(frames)])
    called = len(backend.shapes("denoiser")) - before
    assert 1 - called / count >= least


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_still_scene_settles_on_its_own_latest_frame(steps: int) -> None:
    config = replace(BASE, steps=steps, similarity_skip_cap=100)
    stream, backend = counting(config)
    *moving, still = pictures(0, 4)
    for frame in moving:
        assert not stream(frame).skipped
    outputs = [stream(still) for _ in range(12)]
    settled = Stream(tiny_model(), config)(still).image
    for output in outputs[steps + 2 :]:
        assert torch.allclose(output.image, settled, atol=CLOSE)
    calls = len(backend.shapes("denoiser"))
    assert stream(still).skipped
    assert len(backend.shapes("denoiser")) == calls


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_scene_that_stays_still_costs_one_call_for_each_frame_that_the_cap_lets_through(steps: int) -> None:
    stream, backend = counting(replace(BASE, steps=steps, similarity_skip_cap=10))
    still = pictures(0, 1)[0]
    settled = stream(still).image.clone()
    outputs = [stream(still) for _ in range(20)]
    before = len(backend.shapes("denoiser"))
    outputs += [stream(still) for _ in range(110)]
    assert len(backend.shapes("denoiser")) - before == 10
    assert all(torch.allclose(output.image, settled, atol=CLOSE) for output in outputs)
    assert [tag for tag, _ in shown([*outputs, *stream.flush()])] == list(range(1, 131)), "none waits for another"


def test_a_scene_that_stays_still_follows_a_change_too_small_to_be_seen() -> None:
    config = replace(BASE, steps=4, similarity_skip_cap=10)
    stream = Stream(tiny_model(), config)
    evening = 0.1 + 0.9 * pictures(0, 1)[0]
    night = evening - 0.005
    before, after = (Stream(tiny_model(), config)(frame).image for frame in (evening, night))
    outputs = [stream(frame) for frame in [evening] * 20 + [night] * 50]
    assert stream._filter.still
    apart = float((before - after).abs().max())
    assert float((outputs[20].image - before).abs().max()) < apart / 20
    assert float((outputs[-1].image - after).abs().max()) < apart / 20


def test_an_equal_frame_now_and_then_does_not_bring_the_frames_in_flight_out() -> None:
    """A film at 24 frames a second on a screen at 60 shows each of them twice or thrice."""
    stream, backend = counting(replace(BASE, steps=4))
    clip = [frame for number, frame in enumerate(pictures(0, 10)) for _ in range(2 + number % 2)]
    stream(clip[0])
    before = len(backend.shapes("denoiser"))
    for frame in clip[1:]:
        stream(frame)
    assert len(backend.shapes("denoiser")) - before == 9


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("buffer", [1, 2])
def test_every_frame_comes_out_once_with_the_picture_of_the_one_it_is_like(steps: int, buffer: int) -> None:
    config = replace(BASE, steps=steps, similarity_threshold=0.98)
    slow = [torch.cat([one] * buffer) for one in alike(0.8, 30).split(1)]
    cut, still = pictures(1, 3, buffer), pictures(2, 1, buffer) * 9
    clip = [*slow, *cut, *still, *slow, *cut]
    stream = Stream(tiny_model(), config)
    outputs = [stream(frames) for frames in clip] + stream.flush()
    found = shown(outputs)
    assert [tag for tag, _ in found] == list(range(buffer * len(clip)))
    decider, kept = SimilarityFilter(0.98, config.similarity_skip_cap, config.seed), 0
    alone: dict[int, torch.Tensor] = {}
    skipped = 0
    decider.keep(clip[0], 0)
    for number, frames in enumerate(clip):
        if number and decider.should_skip(frames, number * buffer / 30):
            skipped += 1
        else:
            kept = number
        if kept not in alone:
            alone[kept] = Stream(tiny_model(), replace(config, similarity_filter=False))(clip[kept]).image
        for place in range(buffer):
            _, picture = found[buffer * number + place]
            assert torch.allclose(picture, alone[kept][place], atol=CLOSE), (number, kept)
    assert skipped > 15


CHANGES = {
    "prompt": {"prompt": "neon"},
    "fewer steps": {"steps": 2},
    "one step": {"steps": 1},
    "more steps": {"steps": 6},
    "filter off": {"similarity_filter": False},
    "sparse": {"sparse": True},
    "cap": {"similarity_skip_cap": 50},
    "words": {"text_to_image": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_the_batch_pauses_is_in_the_pictures_soon(change: str) -> None:
    before = replace(BASE, steps=4, similarity_skip_cap=100)
    after = replace(before, **CHANGES[change])
    stream = Stream(tiny_model(), before)
    *moving, still = pictures(0, 6)
    outputs = [stream(frame) for frame in moving]
    outputs += [stream(still), stream(still)]
    assert outputs[-1].repeated, "it pauses"
    stream.configure(after)
    outputs += [stream(still) for _ in range(after.steps + 3)]
    tags = [tag for tag, _ in shown(outputs)]
    assert tags == sorted(set(tags))
    assert outputs[-1].tags[0] > len(moving) + 1, "nothing from before"
    if not after.text_to_image:
        expected = [one(still) for one in [Stream(tiny_model(), replace(after, sparse=False))] for _ in range(3)][-1]
        assert torch.allclose(outputs[-1].image, expected.image, atol=CLOSE)
    fallen_out = {"fewer steps": {3, 4}, "one step": {3, 4, 5, 6}, "words": {3, 4, 5, 6}}.get(change, set())
    found = [tag for tag, _ in shown([*outputs, *stream.flush()])]
    assert found == [tag for tag in range(len(outputs)) if tag not in fallen_out]
    stream.close()


def test_frames_in_flight_come_out_with_their_followers_while_no_frame_comes() -> None:
    stream, backend = counting(replace(BASE, steps=4))
    *moving, last = pictures(0, 7)
    outputs = [stream(frame) for frame in [*moving, last, last]]
    waiting = []
    while (output := stream.idle()) is not None:
        waiting.append(output)
    assert [tag for tag, _ in shown(outputs + waiting)] == list(range(8))
    assert waiting[-1].followers == ((7,),)
    assert torch.allclose(waiting[-1].image, Stream(tiny_model(), replace(BASE, steps=4))(last).image, atol=CLOSE)
    calls = len(backend.calls)
    assert stream.idle() is None
    assert len(backend.calls) == calls, "and then nothing is done"
    after = [stream(frame) for frame in pictures(1, 5)]
    assert [tag for tag, _ in shown(after)] == [8, 9], "nothing from before comes late"


@pytest.mark.parametrize("finish", ["idle", "flush"])
@pytest.mark.parametrize("steps", [3, 4])
def test_a_frame_that_is_skipped_after_idle_steps_has_its_picture(steps: int, finish: str) -> None:
    """What idle steps let in is nobody's and leaves unseen; no frame may wait with it."""
    for idle in range(1, steps - 1):
        stream, _ = counting(replace(BASE, steps=steps, similarity_skip_cap=100))
        first, second = pictures(5, 2)
        outputs = [stream(first), stream(second)]
        outputs += [output for _ in range(idle) if (output := stream.idle()) is not None]
        outputs.append(stream(second))
        assert outputs[-1].skipped
        if finish == "flush":
            outputs += stream.flush()
        while (output := stream.idle()) is not None:
            outputs.append(output)
        found = shown(outputs)
        assert [tag for tag, _ in found] == [0, 1, 2]
        assert torch.equal(found[1][1], found[2][1])


def test_the_batch_goes_on_where_a_frame_comes_before_all_are_out() -> None:
    config = replace(BASE, steps=4)
    stream, clip = Stream(tiny_model(), config), pictures(0, 12)
    outputs = []
    for number, frame in enumerate(clip):
        outputs.append(stream(frame))
        if number in (5, 6) and (output := stream.idle()) is not None:
            outputs.append(output)
    found = shown([*outputs, *stream.flush()])
    assert [tag for tag, _ in found] == list(range(12))
    for number in (5, 6, 7, 11):
        alone = Stream(tiny_model(), config)(clip[number]).image[0]
        assert torch.allclose(found[number][1], alone, atol=CLOSE), number


def test_a_still_scene_has_no_frames_to_wait_for() -> None:
    """Frames that were skipped are named by their turn, one call a frame: these names do not outlive a stall."""
    stream, backend = counting(replace(BASE, steps=3, similarity_skip_cap=100))
    still = pictures(0, 1)[0]
    outputs = [stream(still) for _ in range(8)]
    calls = len(backend.calls)
    while (output := stream.idle()) is not None:
        outputs.append(output)
    assert [tag for tag, _ in shown(outputs)] == list(range(8))
    assert len(backend.calls) == calls
    assert stream(still).skipped, "the scene is still known"


def test_frames_that_come_while_the_prompt_turns_are_what_later_ones_are_compared_with() -> None:
    config = replace(BASE, steps=1, transition=0.2)
    stream = Stream(tiny_model(), config)
    first, second = pictures(0, 2)
    stream(first, at=0.0)
    stream.configure(replace(config, prompt="neon"))
    assert not stream(second, at=0.1).skipped
    assert not stream(second, at=0.2).skipped
    assert stream(second, at=0.3).skipped
    assert not stream(first, at=0.4).skipped


def test_a_change_of_settings_shows_although_the_scene_is_still() -> None:
    config = replace(BASE, steps=1, similarity_skip_cap=1000)
    stream, still = Stream(tiny_model(), config), pictures(0, 1)[0]
    before = [stream(still) for _ in range(3)][-1]
    assert before.skipped
    stream.configure(replace(config, prompt="neon"))
    after = stream(still)
    assert not after.skipped
    assert not torch.allclose(before.image, after.image, atol=1e-3)
