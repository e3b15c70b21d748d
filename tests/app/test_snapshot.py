"""Snapshots carry their settings, and never replace a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.settings import Settings
from app.sinks import SinkError
from app.snapshot import SnapshotError, save_snapshot, settings_of_snapshot
from app.sources.images import read_image
from pipeline.config import StreamConfig
from tests.app.fakes import FACTS

SETTINGS = Settings(
    stream=StreamConfig(prompt='ink, "Tusche" 墨 🖌', strength=0.35, steps=3, seed=77), width=72, height=64
)


def test_settings_and_picture_come_back(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    path = save_snapshot(pixels, SETTINGS, FACTS.name, tmp_path / "new folder")
    assert settings_of_snapshot(path) == (SETTINGS, [])
    np.testing.assert_array_equal(read_image(path), pixels)
    with Image.open(path) as picture:
        assert picture.text["Description"] == SETTINGS.stream.prompt  # type: ignore[attr-defined]


def test_pixels_that_are_a_view_are_fine(tmp_path: Path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :10] = 255
    with Image.open(save_snapshot(pixels[:, ::-1], SETTINGS, "", tmp_path)) as picture:
        assert (np.asarray(picture)[:, -10:] == 255).all()


def test_two_snapshots_in_a_second_are_two_files(tmp_path: Path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    paths = {save_snapshot(pixels, replace(SETTINGS, frame_buffer=n), "", tmp_path) for n in (1, 2, 3, 4)}
    assert sorted(settings_of_snapshot(path)[0].frame_buffer for path in paths) == [1, 2, 3, 4]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="is not a folder"):
        save_snapshot(np.zeros((8, 8, 3), np.uint8), SETTINGS, "", tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SinkError, match="No space left"):
        save_snapshot(np.zeros((8, 8, 3), np.uint8), SETTINGS, "", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def png(path: Path, **text: str) -> Path:
    info = PngInfo()
    for key, value in text.items():
        info.add_itxt(key, value)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    return path


def test_what_is_no_snapshot_is_told_in_words(tmp_path: Path):
    cut = save_snapshot(np.zeros((64, 64, 3), np.uint8), SETTINGS, "", tmp_path)
    cut.write_bytes(cut.read_bytes()[:60])
    (tmp_path / "text.png").write_text("hello")
    for path, words in [
        (png(tmp_path / "plain.png"), "only Vitrail's own snapshots"),
        (png(tmp_path / "damaged.png", vitrail="{"), "are damaged"),
        (png(tmp_path / "deep.png", vitrail="[" * 100_000), "are damaged"),
        (png(tmp_path / "list.png", vitrail="[]"), "newer version"),
        (png(tmp_path / "newer.png", vitrail='{"version": 99}'), "newer version"),
        (png(tmp_path / "empty.png", vitrail='{"version": 1}'), "no settings in it"),
        (tmp_path / "text.png", "is not a PNG"),
        (tmp_path / "missing.png", "No such file"),
        (cut, "cannot be read|only Vitrail's own"),
    ]:
        with pytest.raises(SnapshotError, match=words):
            settings_of_snapshot(path)


def test_values_that_this_version_does_not_know_are_noted(tmp_path: Path):
    inside = '{"version": 1, "settings": {"stream": {"strength": 9, "sparkle": 1}, "mirror": true}}'
    settings, notes = settings_of_snapshot(png(tmp_path / "old.png", vitrail=inside))
    assert settings == Settings(mirror=True)
    assert len(notes) == 2
