"""What holds the picture up, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.hints import Origin, hint, origin_of
from app.metrics import Snapshot
from app.settings import Settings
from app.sources import open_source
from pipeline.config import StreamConfig

CAMERA = Origin("camera", 30.0)
SMOOTH = Snapshot(
    frames_in=900,
    frames_out=900,
    fps_in=30,
    fps_out=30,
    recent_latency_ms=60,
    stages_ms={"encode": 2.0, "unet": 10.0, "decode": 3.0},
)
SLOW_MODEL = replace(SMOOTH, fps_out=8, frames_dropped=500, stages_ms={"encode": 8.0, "unet": 110.0, "decode": 7.0})


def test_nothing_is_said_while_all_is_well():
    assert hint(SMOOTH, Settings(), CAMERA) == ""
    assert hint(Snapshot(), Settings(), CAMERA) == ""
    assert hint(replace(SLOW_MODEL, frames_out=5), Settings(), CAMERA) == ""


def test_a_camera_in_dim_light():
    words = hint(replace(SMOOTH, fps_in=15, fps_out=15), Settings(), CAMERA)
    assert "camera gives only 15 of its 30 frames" in words
    assert "light" in words


@pytest.mark.parametrize(("kind", "word"), [("screen", "smaller region"), ("other", "source gives only 15")])
def test_other_slow_sources(kind: str, word: str):
    assert word in hint(replace(SMOOTH, fps_in=15, fps_out=15), Settings(), Origin(kind, 30.0))


def test_a_source_that_promised_no_more_is_not_blamed():
    assert hint(replace(SMOOTH, fps_in=15, fps_out=15), Settings(), Origin("camera", 15.0)) == ""
    assert hint(replace(SMOOTH, fps_in=15, fps_out=15), Settings(), Origin("other", None)) == ""


def test_a_slow_model_and_what_would_cost_less():
    plain = hint(SLOW_MODEL, Settings(), CAMERA)
    assert "The model is the slowest part (110 ms" in plain
    assert "a smaller size or the similarity filter" in plain
    assert "newest frame wins" in plain
    many = StreamConfig(steps=4, guidance="full")
    assert "fewer steps or self-negative guidance" in hint(SLOW_MODEL, Settings(stream=many), CAMERA)


def test_slow_coding_is_told_apart_from_a_slow_model():
    slow = replace(SLOW_MODEL, stages_ms={"encode": 20.0, "unet": 30.0, "decode": 90.0})
    assert "picture's coding is the slowest part (90 ms" in hint(slow, Settings(), CAMERA)


def test_frames_that_go_through_together_count_together():
    """Four frames in 125 ms are 32 a second: then it is not the model."""
    assert "model is fast enough" in hint(SLOW_MODEL, Settings(frame_buffer=4), CAMERA)


def test_a_recording_that_leaves_out_frames():
    assert "has left out 7 frames lately" in hint(SMOOTH, Settings(), CAMERA, sink_drops=7)
    assert hint(SMOOTH, Settings(), CAMERA, sink_drops=1) == ""


def test_a_late_picture():
    late = replace(SMOOTH, recent_latency_ms=1200)
    assert "1.2 s late: fewer steps" in hint(late, Settings(stream=StreamConfig(steps=8)), CAMERA)


def test_sources_tell_what_they_are():
    assert origin_of(open_source("camera")).kind == "camera"
    assert origin_of(open_source("screen")) == Origin("screen", 30.0)
    assert origin_of(open_source("testcard:fps=12")) == Origin("other", 12.0)
