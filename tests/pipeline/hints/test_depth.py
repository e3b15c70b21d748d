"""The depth hint: what the model says, on a scale that does not flicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.backends.eager import EagerBackend
from pipeline.hints.depth import Depth, working_size
from pipeline.models.vision import VisionModel, read_vision_model
from tests.tiny_model import tiny_model
from tests.vision_models import write_depth_model


class Nearness(torch.nn.Module):
    """Says that what is bright is near, on the scale of ``factor`` and ``offset``; metres say it the other way."""

    def __init__(self, *, metres: bool = False) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))
        self.offset = torch.nn.Parameter(torch.ones(1))
        self.config: dict[str, object] = {}
        self.metres = metres

    def forward(self, pixel_values: torch.Tensor) -> Any:
        near = self.factor * pixel_values[:, 0] + self.offset
        return type("Found", (), {"predicted_depth": 1 / near if self.metres else near})


def depth_of(module: Nearness, **config: object) -> Depth:
    module.requires_grad_(False)
    return Depth(VisionModel("a model", module, {"patch_size": 8, **config}, (0.0,) * 3, (1.0,) * 3, 64))


def ramp(shift: float = 0.0) -> torch.Tensor:
    """(1, 3, 64, 64) brighter to the right."""
    return (torch.linspace(0.1, 0.9, 64) + shift).expand(1, 3, 64, 64).contiguous()


def eager() -> EagerBackend:
    return EagerBackend(tiny_model())


@torch.inference_mode()
def test_it_is_what_the_model_says_between_black_and_white(tmp_path: Path) -> None:
    module = write_depth_model(tmp_path / "depth")
    model = read_vision_model(str(tmp_path / "depth"), "depth", torch.device("cpu"), torch.float32)
    frames = torch.rand(1, 3, 84, 112)
    small = F.interpolate(frames, (70, 98), mode="bilinear", antialias=True)
    mean, deviation = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.4]]).view(2, 1, 3, 1, 1)
    theirs = module(pixel_values=(small - mean) / deviation).predicted_depth
    low, high = torch.quantile(theirs[0, ::4, ::4], torch.tensor([0.02, 0.98]))
    expected = F.interpolate(((theirs - low) / (high - low)).clamp(0, 1)[:, None], (84, 112), mode="bilinear")
    found = Depth(model)(frames, eager())
    torch.testing.assert_close(found, expected.expand(-1, 3, -1, -1), atol=1e-4, rtol=0)
    assert found.std() > 0.1


@torch.inference_mode()
@pytest.mark.parametrize("module", [Nearness(), Nearness(metres=True)], ids=["relative", "metres"])
def test_what_is_near_is_bright(module: Nearness) -> None:
    found = depth_of(module, depth_estimation_type="metric" if module.metres else "relative")(ramp(), eager())
    assert found[0, 0, 32, 2] < 0.1
    assert found[0, 0, 32, -2] > 0.9
    assert bool((found[0, 0, 32].diff() >= -1e-6).all())


@torch.inference_mode()
def test_a_scale_that_wavers_makes_no_flicker() -> None:
    """The same scene on scales that differ by 10 %: each by itself gives the same hint, so the reference is its own."""
    module = Nearness()
    depth, backend = depth_of(module), eager()
    first = depth(ramp(), backend)
    changes, frame = [], ramp()
    for number in range(8):
        frame = ramp(0.04 if number % 2 else -0.04)  # the ends of each frame alone would take it for the same depth
        changes.append(float((depth(frame, backend) - first).abs().mean()))
    moved = 0.04 / 0.8
    assert max(changes) == pytest.approx(moved, rel=0.25)  # seen as what it is, and not stretched away


@torch.inference_mode()
def test_another_scene_has_a_scale_of_its_own_at_once() -> None:
    module = Nearness()
    depth, backend = depth_of(module), eager()
    depth(ramp(), backend)
    module.factor.fill_(30.0)
    after = depth(ramp(), backend)
    assert after[0, 0, 32, 2] < 0.1
    assert after[0, 0, 32, 32] == pytest.approx(0.5, abs=0.05)


@torch.inference_mode()
def test_frames_of_one_call_are_as_those_of_successive_calls() -> None:
    frames = torch.cat([ramp(shift) for shift in (0.0, 0.05, -0.03, 0.08)])
    together, apart = depth_of(Nearness()), depth_of(Nearness())
    backend = eager()
    one_by_one = torch.cat([apart(frame[None], backend) for frame in frames])
    two_by_two = torch.cat([together(pair, backend) for pair in frames.split(2)])
    assert torch.equal(one_by_one, two_by_two)
    together.reset()
    assert torch.equal(together(frames[:1], backend), one_by_one[:1])


def test_a_model_looks_at_the_shape_of_the_frame_and_at_no_more_than_there_is() -> None:
    assert working_size(512, 768, 518, 14) == (518, 770)
    assert working_size(1080, 1920, 518, 14) == (518, 924)
    assert working_size(256, 256, 518, 14) == (252, 252)
    assert working_size(8, 8, 518, 14) == (14, 14)
