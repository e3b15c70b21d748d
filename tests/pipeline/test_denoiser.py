"""Few rows among many: how frames that fill the slots are taken by the engine of a tick."""

from __future__ import annotations

import pytest
import torch

from pipeline import GUIDANCE_KINDS, Stream, StreamConfig
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.denoiser import Padding
from pipeline.diffusion.guidance import row_layout
from tests.tiny_model import tiny_model


@pytest.mark.parametrize("kind", GUIDANCE_KINDS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("slots", "frames"), [(4, 1), (3, 2), (1, 1)])
def test_rows_come_back_in_their_places(kind: str, first: bool, slots: int, frames: int) -> None:
    small, large = row_layout(kind, 1, frames, first), row_layout(kind, slots, frames, True)
    rows = torch.arange(float(sum(count for _, count in small))).view(-1, 1)
    padding = Padding(small, large)
    padded = padding.padded(rows)
    assert len(padded) == sum(count for _, count in large)
    assert torch.equal(padding.taken_out(padded), rows)
    start = 0
    for (_, count), (_, room) in zip(small, large, strict=False):
        own = rows[:count] if start == 0 else rows[len(rows) - count :]
        assert set(padded[start : start + room].flatten().tolist()) == set(own.flatten().tolist()), "of the same prompt"
        start += room


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_filling_the_slots_builds_nothing_of_its_own(guidance: str) -> None:
    """Engines of a compiler take a minute: none is built for the few rows of one reset."""
    model = tiny_model(True)
    backend = GraphBackend(model, "cuda-graphs", CUDA_GRAPHS)
    config = StreamConfig(prompt="a", negative_prompt="b", steps=3, guidance=guidance, guidance_scale=1.5)
    stream, expected = Stream(model, config, backend), Stream(model, config)
    frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for frame in frames[:3]:
        torch.testing.assert_close(stream(frame).image, expected(frame).image, atol=1e-5, rtol=0)
        backend.wait()
    for one in (stream, expected):
        one.reset()
    torch.testing.assert_close(stream(frames[3]).image, expected(frames[3]).image, atol=1e-5, rtol=0)
    backend.wait()
    assert len([spec for spec in backend._pictures[0].ready() if spec.network == "denoiser"]) == 1
    backend.close()
