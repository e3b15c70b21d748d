"""SSF: the paper's formula, an exact cap, a reference that is the last frame processed, and no sleeping."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import pipeline
from pipeline import Stream, StreamConfig
from pipeline.diffusion.similarity import SimilarityFilter, grey_copy, skip_probability
from tests.tiny_model import tiny_model


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def with_similarity(wanted: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures whose grey copies have (nearly) this cosine similarity."""
    base, other = picture(0), picture(1)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        mixed = torch.lerp(base, other, middle)
        reached = float(torch.cosine_similarity(grey_copy(base), grey_copy(mixed), dim=0))
        low, high = (middle, high) if reached > wanted else (low, middle)
    return base, torch.lerp(base, other, low)


@pytest.mark.parametrize("similarity", [0.95, 0.97, 0.99])
def test_skip_frequency_is_that_of_the_formula(similarity: float) -> None:
    threshold = 0.94
    base, other = with_similarity(similarity)
    decider = SimilarityFilter(threshold, skip_cap=10_000, seed=3)
    skipped = 0
    for _ in range(1500):
        decider.reset()
        decider.should_skip(base)
        skipped += decider.should_skip(other)
    expected = (decider.similarity - threshold) / (1 - threshold)
    assert expected == pytest.approx(skip_probability(similarity, threshold), abs=0.02)
    assert skipped / 1500 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 1500) ** 0.5)


def test_below_the_threshold_nothing_is_skipped() -> None:
    decider = SimilarityFilter(0.98)
    assert not any(decider.should_skip(picture(seed)) for seed in range(50))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_flat_frame_equals_itself(level: float) -> None:
    flat = torch.full((1, 3, 64, 64), level)
    decider = SimilarityFilter(0.98)
    assert not decider.should_skip(flat)
    assert all(decider.should_skip(flat) for _ in range(10))
    assert decider.similarity == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("cap", [0, 1, 3, 10])
def test_the_skip_cap_is_exact(cap: int) -> None:
    decider = SimilarityFilter(0.5, skip_cap=cap)
    decisions = [decider.should_skip(picture()) for _ in range(3 * (cap + 1))]
    assert decisions == ([False] + [True] * cap) * 3


def test_threshold_one_skips_nothing() -> None:
    assert skip_probability(1.0, 1.0) == 0.0


def test_slow_change_adds_up_until_it_is_seen() -> None:
    """Every frame is nearly equal to the one before, yet the change is noticed, since the reference stays."""
    base, other = picture(0), picture(1)
    decider = SimilarityFilter(0.98, skip_cap=10_000)
    decisions = [decider.should_skip(torch.lerp(base, other, step / 200)) for step in range(200)]
    assert 2 <= decisions.count(False) < 100


def test_a_still_scene_settles_on_its_own_latest_frame() -> None:
    config = StreamConfig(prompt="ink", steps=4, similarity_filter=True, similarity_skip_cap=100)
    stream, model = Stream(tiny_model(), config), tiny_model()
    moving = torch.rand(3, 3, 32, 32)
    still = torch.rand(3, 32, 32)
    for frame in moving:
        assert not stream(frame).skipped
    outputs = [stream(still) for _ in range(8)]
    assert [output.skipped for output in outputs] == [False] * 4 + [True] * 4
    settled = Stream(model, config)(still).image
    for output in outputs[3:]:
        assert torch.allclose(output.image, settled, atol=1e-4)


def test_no_frame_is_lost_or_repeated_with_the_filter_on() -> None:
    config = StreamConfig(steps=3, similarity_filter=True, similarity_threshold=0.9)
    stream = Stream(tiny_model(), config)
    clip = [torch.rand(3, 32, 32)] * 5 + [torch.rand(3, 32, 32) for _ in range(3)] + [torch.rand(3, 32, 32)] * 6
    outputs = [stream(frame) for frame in clip]
    assert any(output.skipped for output in outputs)
    shown = [output for output in outputs + stream.flush() if not output.repeated]
    assert [output.tags[0] for output in shown] == list(range(len(clip)))


def test_a_change_of_settings_shows_although_the_scene_is_still() -> None:
    config = StreamConfig(prompt="ink", similarity_filter=True, similarity_skip_cap=1000)
    stream, still = Stream(tiny_model(), config), torch.rand(3, 32, 32)
    before = [stream(still) for _ in range(3)][-1]
    assert before.skipped
    stream.configure(StreamConfig(prompt="neon", similarity_filter=True, similarity_skip_cap=1000))
    after = stream(still)
    assert not after.skipped
    assert not torch.allclose(before.image, after.image, atol=1e-3)


def test_the_engine_never_sleeps() -> None:
    """Nothing on a frame's way waits: pacing is the application's business, and engines are built beside the stream."""
    root = Path(pipeline.__file__).parent
    paths = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] != "backends"]
    # Passing on to a backend that a measurement or a test wants to wait for its engines is no waiting of its own.
    sources = [path.read_text(encoding="utf-8").replace("self._networks.backend.wait()", "") for path in paths]
    assert len(sources) > 10
    assert not any("sleep(" in source or ".wait(" in source for source in sources)
