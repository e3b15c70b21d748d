"""From a few words to a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.commands.parser import SOURCE_WORDS
from app.sources import SourceError, open_source
from app.sources.camera import CameraSource
from app.sources.canvas import CanvasSource
from app.sources.images import ImageFolderSource, ImageSource
from app.sources.screen import ScreenSource
from app.sources.testcard import TestCardSource
from app.sources.video import VideoSource
from app.sources.window import WindowSource


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("camera", CameraSource, "camera 0"),
        ("camera:2", CameraSource, "camera 2"),
        ("camera:Logi: the one", CameraSource, "camera Logi: the one"),
        ("camera:Logi: the one@1280x720", CameraSource, "camera Logi: the one"),
        ("window:My @ drawing", WindowSource, "window My @ drawing"),
        ("window:77", WindowSource, "window 77"),
        ("canvas", CanvasSource, "canvas"),
        ("screen", ScreenSource, "screen 1"),
        ("screen:2:0,10,640,480", ScreenSource, "screen 2"),
        ("screen:0", ScreenSource, "all screens"),
        ("testcard", TestCardSource, "test card 640x480"),
        ("testcard:seed=3,width=64,height=48,fps=12.5,frames=7", TestCardSource, "test card 64x48"),
        ("some/clip.mp4", VideoSource, "clip.mp4"),
        ("drawing.PNG", ImageSource, "drawing.PNG"),
    ],
)
def test_a_spec_names_a_source(spec: str, kind: type, name: str):
    source = open_source(spec)
    assert isinstance(source, kind)
    assert source.name == name


@pytest.mark.parametrize("word", SOURCE_WORDS)
def test_the_words_of_sources_are_no_files(word: str):
    assert not isinstance(open_source(f"{word}:1" if word == "window" else word), VideoSource)


def test_an_address_is_said_to_be_one():
    with pytest.raises(SourceError, match="is an address, and addresses are not read; download it"):
        open_source("http://localhost:1/x.mp4")


def test_a_folder_is_a_source_of_pictures(tmp_path: Path):
    assert isinstance(open_source(str(tmp_path)), ImageFolderSource)


def test_a_file_without_a_suffix_is_tried_as_a_video(tmp_path: Path):
    (tmp_path / "clip").touch()
    assert isinstance(open_source(str(tmp_path / "clip")), VideoSource)


def test_test_card_options_reach_the_card():
    source = open_source("testcard:frames=7,fps=12.5")
    assert (source.frame_count, source.fps) == (7, 12.5)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("spec", ["clip.mp4", "drawing.png", "testcard"])
def test_files_and_cards_are_live_when_asked(spec: str, live: bool):
    assert open_source(spec, live=live).live is live


def test_a_test_card_read_as_a_file_ends():
    assert open_source("testcard").frame_count == 300
    assert open_source("testcard", live=True).frame_count is None


@pytest.mark.parametrize(
    "spec", ["nonsense", "", "screen:first", "screen:1:1,2,3", "testcard:colour=1", "testcard:fps"]
)
def test_what_is_not_understood_is_refused(spec: str):
    with pytest.raises(SourceError, match=r"is not understood; write|is no file or folder; give one"):
        open_source(spec)
