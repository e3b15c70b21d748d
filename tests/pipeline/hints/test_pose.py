"""The pose hint: from the peaks of a model's maps to OpenPose's skeleton."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import ModelError
from pipeline.backends.eager import EagerBackend
from pipeline.hints.pose import Pose, around, cut_out, joints_of, shaped
from pipeline.hints.skeleton import (
    LEFT_ELBOW,
    LEFT_SHOULDER,
    NOSE,
    RIGHT_ELBOW,
    RIGHT_SHOULDER,
    skeletons,
)
from pipeline.models.vision import read_vision_model
from tests.tiny_model import tiny_model
from tests.vision_models import write_pose_model

CPU = torch.device("cpu")


def hill(x: float, y: float) -> torch.Tensor:
    """(64, 48) a hill whose top is at x, y in pixels of the map."""
    columns, rows = torch.arange(48) + 0.5, torch.arange(64) + 0.5
    return torch.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / 8)


def test_the_joint_is_where_the_peak_is_in_the_box() -> None:
    heatmaps = torch.stack([hill(10.3, 20.6), 0.2 * hill(47.5, 63.5)])[None]
    boxes = torch.tensor([[100.0, 50.0, 96.0, 128.0]])  # two pixels of the frame to each of the map
    found = joints_of(heatmaps, boxes)
    assert found[0, 0, :2].tolist() == pytest.approx([100 + 2 * 10.3, 50 + 2 * 20.6], abs=0.5)
    assert found[0, 0, 2] > 0.9
    assert found[0, 1].tolist() == pytest.approx([100 + 2 * 47.5, 50 + 2 * 63.5, 0.2], abs=0.6)


def test_the_box_is_around_the_person_and_what_is_cut_out_lies_where_it_says() -> None:
    mask = torch.zeros(2, 1, 32, 64)
    mask[0, 0, 8:24, 40:48] = 1
    whole = torch.tensor([[0.0, 0.0, 128.0, 64.0]]).expand(2, -1)  # the mask is at half the size
    box, nobody = around(mask, whole)
    assert nobody.tolist() == [0, 0, 128, 64]
    assert box.tolist() == [80 - 2, 16 - 4, 16 * 1.25, 32 * 1.25]
    upright = shaped(box[None], (64, 48))
    assert upright.tolist() == [[88 - 15, 32 - 20, 30, 40]]
    frame = torch.zeros(1, 3, 64, 128)
    frame[..., 32, 88] = 1
    cut = cut_out(frame, upright, (64, 48))
    top = int(cut[0, 0].argmax())
    assert (top // 48, top % 48) == pytest.approx((32, 24), abs=1)


def test_a_skeleton_has_openposes_colours_and_only_what_is_seen() -> None:
    joints = torch.zeros(1, 17, 3)
    for joint, x, y in (
        (NOSE, 128, 40),
        (LEFT_SHOULDER, 168, 100),
        (RIGHT_SHOULDER, 88, 100),
        (LEFT_ELBOW, 200, 160),
        (RIGHT_ELBOW, 60, 160),
    ):
        joints[0, joint] = torch.tensor([x, y, 0.9])
    joints[0, LEFT_ELBOW, 2] = 0.1  # not seen
    drawn = (skeletons(joints, 256, 256)[0] * 255).round()
    assert drawn[:, 40, 128].tolist() == [255, 0, 0]  # the nose
    assert drawn[:, 100, 128].tolist() == [255, 85, 0]  # the neck, between the shoulders
    assert drawn[:, 100, 108].tolist() == [153, 0, 0]  # to the right shoulder, in six tenths of the first colour
    assert drawn[:, 130, 74].tolist() == [153, 102, 0]  # the right upper arm
    assert drawn[:, 130, 184].tolist() == [0, 0, 0]  # the left one
    assert drawn.amax() == 255
    assert float((drawn.amax(0) > 0).float().mean()) < 0.05


@pytest.mark.parametrize("size", [(256, 256), (512, 512), (640, 384)])
def test_a_skeleton_grows_with_the_picture(size: tuple[int, int]) -> None:
    joints = torch.zeros(1, 17, 3)
    height, width = size
    joints[0, NOSE] = torch.tensor([width * 0.5, height * 0.25, 1.0])
    lit = skeletons(joints, height, width)[0, 0] > 0.5
    rows, columns = lit.nonzero().unbind(1)
    assert float(columns.float().mean() + 0.5) == pytest.approx(width * 0.5, abs=1)
    assert float(rows.float().mean() + 0.5) == pytest.approx(height * 0.25, abs=1)
    radius = 4 * min(size) / 512
    assert float(lit.sum()) == pytest.approx(3.14 * radius**2, rel=0.35)


@torch.inference_mode()
def test_the_hint_is_of_what_the_model_finds(tmp_path: Path) -> None:
    module = write_pose_model(tmp_path / "pose")
    model = read_vision_model(str(tmp_path / "pose"), "pose", CPU, torch.float32)
    frames = torch.rand(2, 3, 64, 48)  # of the model's own shape, so that nothing is cut
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    heatmaps = module(pixel_values=(frames - mean) / deviation).heatmaps
    boxes = torch.tensor([[0.0, 0.0, 48.0, 64.0]]).expand(2, -1)
    found = Pose(model)(frames, EagerBackend(tiny_model()))
    torch.testing.assert_close(found, skeletons(joints_of(heatmaps, boxes), 64, 48))


def test_a_model_of_other_joints_is_refused(tmp_path: Path) -> None:
    write_pose_model(tmp_path / "pose", joints=21)
    model = read_vision_model(str(tmp_path / "pose"), "pose", CPU, torch.float32)
    with pytest.raises(ModelError, match="finds 21 joints; give one that was trained on COCO's 17"):
        Pose(model)
