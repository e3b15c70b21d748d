"""What the window shows, without a window."""

from __future__ import annotations

import pytest

from app.cameras import Camera
from app.sources import open_source
from app.sources.camera import CameraSource
from app.sources.video import VideoSource
from app.status import SessionState, Status
from assets.sample import clip_path
from ui import view
from ui.icons import FOLDER


def test_it_starts_on_the_first_camera(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "first_camera", lambda: Camera(2, "Logi"))
    choice = view.first_choice(None)
    assert (choice.spec, choice.name, choice.kind) == ("camera:2", "Logi", "camera")
    assert isinstance(open_source(choice.spec, live=True), CameraSource)


def test_without_a_camera_it_starts_on_the_sample_clip_in_real_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "first_camera", lambda: None)
    choice = view.first_choice(None)
    source = open_source(choice.spec, live=True)
    assert isinstance(source, VideoSource)
    assert (source.name, source.live) == (clip_path().name, True)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("camera:0@640x480", "camera"),
        ("screen:1", "screen"),
        ("screen:1:0,0,64,64", "region"),
        ("window:77", "window"),
        ("canvas", "canvas"),
        ("testcard:seed=1", "testcard"),
        ("a.PNG", "image"),
        ("a.mp4", "video"),
        (".", "folder"),
    ],
)
def test_a_source_has_a_kind_and_an_icon(spec: str, kind: str):
    choice = view.first_choice(spec)
    assert choice.kind == kind
    assert (FOLDER / f"{choice.icon}.svg").is_file()


def test_a_prompt_is_given_where_there_is_none():
    assert view.first_choices({}) == {"prompt": view.FIRST_PROMPT}
    assert view.first_choices({"prompt": "", "mirror": True}) == {"prompt": "", "mirror": True}  # as it was left
    assert view.first_choices({"prompt": "ink"}) == {"prompt": "ink"}


@pytest.mark.parametrize(
    ("status", "paused", "kind", "words"),
    [
        (Status(SessionState.RUNNING, "on"), False, "info", ""),
        (Status(SessionState.STALLED, "The camera is gone."), False, "error", "The camera is gone. Vitrail keeps"),
        (Status(SessionState.LOADING, "Loading the model"), False, "working", "Loading the model…"),
        (Status(SessionState.STARTING, "Opening pause"), True, "info", "Paused"),
        (Status(SessionState.FAILED, "No such model."), True, "error", "No such model."),
        (Status(SessionState.ENDED, "The source is at its end"), False, "info", "The source is at its end"),
    ],
)
def test_the_banner_says_what_is_not_well(status: Status, paused: bool, kind: str, words: str):
    message = view.message(status, paused=paused)
    assert message.kind == kind
    assert message.text.startswith(words)
    assert bool(message.text) == bool(words)


def test_a_download_of_the_first_model_is_told_and_can_be_cancelled():
    loading = Status(SessionState.LOADING, "Loading the model")
    message = view.message(loading, fetching="Fetching a/b: 1 of 2 MB (50 %)")
    assert (message.text, message.kind, message.button) == ("Fetching a/b: 1 of 2 MB (50 %)…", "working", "Cancel")


@pytest.mark.parametrize(
    ("left", "words"), [(7.2, "Styling starts in about 8 s…"), (0.0, "at any moment…"), (-3.0, "at any moment…")]
)
def test_how_long_it_takes_is_said_where_it_is_known(left: float, words: str):
    loading = Status(SessionState.LOADING, "Loading the model")
    assert view.message(loading, seconds_left=left).text.endswith(words)
    assert view.message(loading, fetching="Fetching a/b", seconds_left=left).text == "Fetching a/b…"
    assert view.message(Status(SessionState.RUNNING), seconds_left=left).text == ""
