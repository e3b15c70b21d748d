"""What the window shows, without a window."""

from __future__ import annotations

import pytest

from app.cameras import Camera
from app.settings import Settings
from app.sources import SourceError
from app.sources.camera import CameraSource
from app.sources.testcard import TestCardSource
from app.sources.video import VideoSource
from app.status import SessionState, Status
from assets.sample import clip_path
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
