"""Sources stay whole, the split is the same everywhere, nothing barred is trained on."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from assets.training.photos import NEVER_TRAINED, centre_square, find_photos, load_photo, split_photos


def _write(path: Path, value: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), value, np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(60):
        for frame in range(3):
            _write(tmp_path / "clips" / f"scene-{scene}__f{frame}.jpg")
    for index in range(40):
        _write(tmp_path / "stills" / f"still{index}a.png")
    for frame in range(3):
        _write(tmp_path / "clips" / f"{NEVER_TRAINED[0]}__f{frame}.jpg")
    return tmp_path


def test_no_source_is_on_both_sides(photos: Path) -> None:
    split = split_photos(find_photos(photos))
    trained = {photo.source for photo in split.train}
    assert split.held_out
    assert split.train
    assert not trained & {photo.source for photo in split.held_out}
    assert len(split.train) + len(split.held_out) == 60 * 3 + 40 + 3


def test_split_is_deterministic(photos: Path) -> None:
    assert split_photos(find_photos(photos)) == split_photos(list(reversed(find_photos(photos))))


def test_barred_clip_is_never_trained_on(photos: Path) -> None:
    split = split_photos(find_photos(photos))
    assert not any(NEVER_TRAINED[0] in photo.source for photo in split.train)


def test_sources_table_groups_frames_and_before_after(tmp_path: Path) -> None:
    for name in ("001_scene_1_f0", "001_scene_1_f1", "002_scene_2"):
        _write(tmp_path / "made" / f"{name}.jpg")
    table = "001\tpackage\tscene-1.webp\n002\tpackage\tscene-2.webp\n"
    (tmp_path / "made" / "SOURCES.tsv").write_text(table, encoding="utf-8")
    assert {photo.source for photo in find_photos(tmp_path)} == {"scene"}


def test_load_photo_cuts_a_square(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", 200)
    picture = load_photo(tmp_path / "a.png", 32)
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.uint8
    with pytest.raises(ValueError, match="not a picture"):
        load_photo(tmp_path / "none.png")


def test_centre_square_keeps_the_middle() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    assert (centre_square(picture, 10) == 255).all()
