"""``render --fps`` and the settings of motion on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import app.commands.logs
from app.cli import main
from tests.app.media import cards, write_clip
from tests.app.test_cli import NO_MODEL_NEEDED, frame_count, refuse
from tests.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def _own_log(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path_factory.mktemp("log"))
    monkeypatch.setattr(app.commands.logs.platformdirs, "user_log_dir", lambda *_, **__: folder)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", cards(6), fps=6)


def test_render_makes_pictures_in_between(tmp_path: Path, clip: Path) -> None:
    tiny = str(write_tiny_model(tmp_path / "tiny", sees_input=True))
    out, report = tmp_path / "smooth.mp4", tmp_path / "report.json"
    command = ["render", str(clip), str(out), "--model", tiny, "--fps", "24", "--report", str(report)]
    assert main([*command, "--width", "64", "--steadiness", "0.5"]) == 0
    assert frame_count(out) == pytest.approx(24, abs=1)
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == pytest.approx(24, abs=1)
    found = json.loads(report.read_text())
    assert found["frames_out"] == 6
    assert found["frames_out"] + found["frames_reprojected"] == frame_count(out)


@pytest.mark.parametrize("fps", ["0", "-3", "100000", "nan", "many"])
def test_a_rate_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, fps: str
) -> None:
    assert "fps" in refuse(capsys, "render", clip, tmp_path / "out.mp4", *NO_MODEL_NEEDED, "--fps", fps)
    assert not (tmp_path / "out.mp4").exists()


def test_one_picture_has_none_in_between(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), np.zeros((64, 64, 3), np.uint8))
    assert "--fps" in refuse(capsys, "render", picture, tmp_path / "out.png", *NO_MODEL_NEEDED, "--fps", "30")


@pytest.mark.parametrize("flags", [("--reprojection", "maybe"), ("--steadiness", "1.5"), ("--steadiness", "-1")])
def test_motion_settings_out_of_range_are_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, flags: tuple[str, str]
) -> None:
    assert flags[0].strip("-") in refuse(capsys, "render", clip, tmp_path / "out.mp4", *NO_MODEL_NEEDED, *flags)
