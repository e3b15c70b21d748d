"""SSF: what it sees, the paper's formula, an exact cap, a reference that is the last frame kept, and no waiting."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.config import StreamConfig
from pipeline.diffusion.similarity import STILL_RUN, SimilarityFilter, similarity, skip_probability, small_copy
from pipeline.stream import Stream
from tests.alike import alike
from tests.benchmarks import material
from tests.tiny_model import tiny_model

ETA = 0.98


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def flat(*colour: float) -> torch.Tensor:
    """One colour, or one grey."""
    return torch.tensor(colour).view(1, -1, 1, 1).expand(1, 3, 256, 256)


def scene() -> torch.Tensor:
    """(1, 3, 256, 256) a frame of the sample clip, of ordinary contrast."""
    return material.to_tensor(material.frames(1, 256))


def grey(frame: torch.Tensor) -> torch.Tensor:
    """Without its colour, in the same luma."""
    return (frame * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(frame)


def with_part(frame: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """The upper left 30 % of the picture are of ``patch``."""
    whole = frame.clone()
    whole[..., :140, :140] = patch[..., :140, :140]
    return whole


def measured(first: torch.Tensor, second: torch.Tensor) -> float:
    return similarity(small_copy(first), small_copy(second))


def original(first: torch.Tensor, second: torch.Tensor) -> float:
    """What StreamDiffusion measures: the cosine of the pictures as they are, in -1..1."""
    return float(torch.cosine_similarity((2 * first - 1).flatten(), (2 * second - 1).flatten(), dim=0))


def skip_share(clip: torch.Tensor, measure: Callable[[torch.Tensor, torch.Tensor], float] = measured) -> float:
    """The share of (N, 3, H, W) frames that is skipped on the average, at a cap of 10."""
    chances, skipped, cap, runs = random.Random(0), 0, 10, 8
    known: dict[tuple[int, int], float] = {}
    for _ in range(runs):
        reference, row = 0, 0
        for index in range(1, len(clip)):
            if (reference, index) not in known:
                known[reference, index] = measure(clip[reference : reference + 1], clip[index : index + 1])
            if row < cap and chances.random() < skip_probability(known[reference, index], ETA):
                skipped, row = skipped + 1, row + 1
            else:
                reference, row = index, 0
    return skipped / runs / (len(clip) - 1)


RED, GREEN = flat(0.8, 0.2, 0.2), flat(0.05, 0.3825, 0.1)  # of one luma


def seen_changes() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    frame = scene()
    night = frame * (0.05 / frame.mean())
    return {
        "half the light": (frame, frame / 2),
        "half the light on white": (flat(1.0), flat(0.5)),
        "grey 0.2 to 0.9": (flat(0.2), flat(0.9)),
        "no colour": (frame, grey(frame)),
        "red to green": (RED, GREEN),
        "30 % red to green": (with_part(frame, RED), with_part(frame, GREEN)),
        "a lamp at night": (night, 2 * night),
        "a lamp at night goes out": (2 * night, night),
        "a lamp on a dark wall": (flat(0.05), flat(0.1)),
    }


@pytest.mark.parametrize("change", list(seen_changes()))
def test_a_change_of_light_or_colour_is_seen_at_once(change: str) -> None:
    before, after = seen_changes()[change]
    decider = SimilarityFilter(ETA)
    decider.should_skip(before, 0)
    assert not decider.should_skip(after, 0)
    assert decider.similarity < ETA


@pytest.mark.parametrize("where", ["scene", "night", "wall", "black", "white"])
@pytest.mark.parametrize("noise", [2, 8])
def test_the_noise_of_a_camera_is_none_of_a_scene(where: str, noise: int) -> None:
    """Fresh noise in every frame, in grey levels: about as many frames are skipped as without."""
    still = {
        "scene": scene(),
        "night": scene() * 0.1,
        "wall": flat(0.5),
        "black": flat(0.0),
        "white": flat(1.0),
    }[where]
    generator = torch.Generator().manual_seed(1)
    clip = torch.cat(
        [(still + noise / 255 * torch.randn(still.shape, generator=generator)).clamp(0, 1) for _ in range(45)]
    )
    assert skip_share(clip) == pytest.approx(skip_share(still.expand(45, -1, -1, -1)), abs=0.05)


def test_a_hand_is_seen_no_later_than_by_the_original() -> None:
    """An ellipse of 1.5 % of the picture moves three pixels a frame before a scene."""
    clip, areas = [], []
    height, width = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    skin = torch.tensor([0.85, 0.65, 0.55]).view(3, 1, 1)
    for index in range(60):
        angle = torch.tensor(index / 21)
        left, top = 128 + 64 * angle.cos(), 128 + 64 * angle.sin()
        inside = ((width - left) / 21.2) ** 2 + ((height - top) / 14.75) ** 2 < 1
        areas.append(float(inside.float().mean()))
        clip.append(torch.where(inside, skin, scene()[0]))
    assert areas == pytest.approx([0.015] * 60, abs=0.001)
    assert skip_share(torch.stack(clip)) <= skip_share(torch.stack(clip), original)


@pytest.mark.parametrize("likelihood", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_skip_frequency_is_that_of_the_formula(likelihood: float) -> None:
    base, other = alike(likelihood, 2).split(1)
    decider = SimilarityFilter(ETA, skip_cap=10_000, seed=3)
    skipped = 0
    for _ in range(1500):
        decider.reset()
        decider.should_skip(base, 0)
        skipped += decider.should_skip(other, 0)
    assert (decider.similarity - ETA) / (1 - ETA) == pytest.approx(likelihood, abs=1e-3)
    assert skipped / 1500 == pytest.approx(likelihood, abs=4 * (likelihood * (1 - likelihood) / 1500) ** 0.5)


def test_below_the_threshold_nothing_is_skipped() -> None:
    decider = SimilarityFilter(0.98)
    assert not any(decider.should_skip(picture(seed), 0) for seed in range(50))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_flat_frame_equals_itself(level: float) -> None:
    decider = SimilarityFilter(ETA)
    assert not decider.should_skip(flat(level), 0)
    assert all(decider.should_skip(flat(level), 0) for _ in range(10))
    assert decider.similarity == 1.0


@pytest.mark.parametrize("cap", [0, 1, 3, 10])
def test_the_skip_cap_is_exact(cap: int) -> None:
    decider = SimilarityFilter(0.5, skip_cap=cap)
    decisions = [decider.should_skip(picture(), 0) for _ in range(3 * (cap + 1))]
    assert decisions == ([False] + [True] * cap) * 3


def test_threshold_one_skips_nothing() -> None:
    assert skip_probability(1.0, 1.0) == 0.0


def test_slow_change_adds_up_until_it_is_seen() -> None:
    """Every frame is nearly equal to the one before, yet the change is noticed, since the reference stays."""
    base, other = picture(0), picture(1)
    decider = SimilarityFilter(0.98, skip_cap=10_000)
    decisions = [decider.should_skip(torch.lerp(base, other, step / 200), 0) for step in range(200)]
    assert 2 <= decisions.count(False) < 100


def test_a_scene_stands_still_after_a_few_frames_that_are_nearly_equal() -> None:
    decider = SimilarityFilter(ETA)
    found = []
    for frame in [picture(0), picture(1), *[picture(2)] * (STILL_RUN + 1), picture(3)]:
        decider.should_skip(frame, 0)
        found.append(decider.still)
    assert found == [False] * (STILL_RUN + 2) + [True, False]


def test_a_scene_still_stands_still_when_a_frame_is_kept_for_no_reason_of_its_own() -> None:
    decider = SimilarityFilter(ETA, skip_cap=5)
    found = [(decider.should_skip(picture(), 0), decider.still) for _ in range(12)]
    assert found == [
        (False, False),
        (True, False),
        (True, False),
        *[(True, True)] * 3,
        (False, True),
        *[(True, True)] * 5,
    ]
    decider.reset()
    assert not decider.still


def test_a_slow_scene_stands_still_only_once_nothing_was_kept_for_half_a_second() -> None:
    frames = alike(0.9, 40)
    decider = SimilarityFilter(ETA, skip_cap=10_000, seed=1)
    kept_at = 0.0
    seen = set()
    for index in range(2000):
        at = index / 32
        if not decider.should_skip(frames[[index % len(frames)]], at) and decider.similarity < 1:
            kept_at = at
        if decider.similarity < 1:  # not the reference itself, after a whole round
            assert decider.still == (at - kept_at >= 0.5)
            seen.add(decider.still)
    assert seen == {False, True}


def test_a_clock_that_steps_back_is_none_that_stands_still() -> None:
    """A clip begins again."""
    frames = alike(0.9, 3)
    decider = SimilarityFilter(0.0, skip_cap=10_000)
    decider.should_skip(frames[[0]], 100.0)
    decider.should_skip(frames[[1]], 0.0)
    assert not decider.still
    decider.should_skip(frames[[2]], 0.6)
    assert decider.still


def test_what_is_kept_unseen_is_the_reference_as_well() -> None:
    decider = SimilarityFilter(ETA)
    decider.should_skip(picture(0), 0)
    decider.keep(picture(1), 0)
    assert decider.should_skip(picture(1), 0)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_engine_never_waits(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on a frame's way does, whether it is drawn or skipped: pacing is the application's business.

    Locks, queues, events and futures all wait by one of these.
    """
    stream = Stream(tiny_model(), StreamConfig(prompt="ink", steps=steps, similarity_filter=True))
    waits: list[str] = []
    caller = threading.current_thread()
    for owner, name in ((threading.Condition, "wait"), (threading.Thread, "join"), (time, "sleep")):
        real = getattr(owner, name)

        def noted(*arguments: Any, real: Callable[..., Any] = real, name: str = name, **options: Any) -> Any:
            if threading.current_thread() is caller:
                waits.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)
    still = torch.rand(3, 32, 32)
    skipped = [stream(still, tags=[number]).skipped for number in range(12)]
    stream(1 - still, tags=[12])
    stream.configure(replace(stream.config, strength=0.5))
    stream(still, tags=[13])
    stream.idle()
    stream.close()
    assert True in skipped
    assert waits == []
