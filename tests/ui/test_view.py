"""What the window shows, without a window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.cameras import Camera
from app.metrics import Snapshot
from app.settings import Settings
from app.sources import SourceError
from app.sources.camera import CameraSource
from app.sources.testcard import TestCardSource
from app.sources.video import VideoSource
from app.status import SessionState, Status
from assets.sample import clip_path
from tests.app.fakes import FACTS
from ui import view


def test_it_starts_on_the_first_camera(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "cameras", lambda: [Camera(2, "Logi"), Camera(4, "Lid")])
    source = view.first_source(None)
    assert isinstance(source, CameraSource)
    assert source.name == "camera 2"


def test_without_a_camera_it_starts_on_the_sample_clip_in_real_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "cameras", list)
    source = view.first_source(None)
    assert isinstance(source, VideoSource)
    assert (source.name, source.live) == (clip_path().name, True)


def test_a_source_that_was_asked_for_is_live():
    source = view.first_source("testcard:seed=1")
    assert isinstance(source, TestCardSource)
    assert source.live
    with pytest.raises(SourceError):
        view.first_source("nonsense")


def test_a_prompt_is_given_where_there_is_none():
    assert view.first_settings(None).stream.prompt == view.FIRST_PROMPT
    mine = view.with_stream(Settings(mirror=True), prompt="ink")
    assert view.first_settings(mine) is mine


def test_settings_change_by_value():
    before = Settings()
    after = view.with_stream(before, strength=0.3)
    assert (before.stream.strength, after.stream.strength) == (0.8, 0.3)
    with pytest.raises(ValueError, match="strength"):
        view.with_stream(before, strength=3)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status(SessionState.RUNNING, "on"), ""),
        (Status(SessionState.STALLED, "The camera is gone."), "The camera is gone."),
        (Status(SessionState.LOADING), "Loading"),
    ],
)
def test_the_banner_says_what_is_not_well(status: Status, text: str):
    assert view.banner(status) == text


def test_the_status_line_has_speed_latency_size_and_device():
    counts = replace(Snapshot(), frames_out=9, fps_out=11.96, fps_in=24, recent_latency_ms=80.4, width=512, height=384)
    line = view.status_line(counts, FACTS)
    for part in ("12.0 of 24.0 frames a second", "80 ms", "512 × 384", "fake on cpu (float32, eager)"):
        assert part in line
    assert view.status_line(counts, None) == "No model yet"
    assert view.status_line(Snapshot(), FACTS) == "fake on cpu (float32, eager)"
