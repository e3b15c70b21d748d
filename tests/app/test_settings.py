"""Settings: ranges, sizes, and a file that survives whatever is in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app import settings as module
from app.settings import Settings, picture_size
from pipeline.config import StreamConfig
from pipeline.setting import Cost, cost_of_change, described

unhurried = hypothesis_settings(deadline=None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 100}, "width is 100; it must be a multiple of 8"),
        ({"height": 8}, "at least 64"),
        ({"width": -8}, "width is -8"),
        ({"fit": "squeeze"}, "fit is 'squeeze'; it must be one of crop, pad, stretch"),
        ({"frame_buffer": 0}, "frame buffer is 0"),
        ({"device": "toaster"}, "device is 'toaster'"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**values)


def test_every_setting_is_described() -> None:
    for kind in (Settings, StreamConfig):
        known = {name for name, _, _ in described(kind)}
        assert known == {field.name for field in dataclasses.fields(kind)} - {"stream"}
        assert all(one.help for _, _, one in described(kind))


def test_costs() -> None:
    assert cost_of_change(Settings(), Settings(mirror=True)) is Cost.NOTHING
    assert cost_of_change(Settings(), Settings(width=128)) is Cost.SLOTS
    assert cost_of_change(Settings(), Settings(model="other")) is Cost.MODEL


@pytest.mark.parametrize(
    ("values", "source", "expected"),
    [
        ({}, (640, 480), (344, 256)),  # the model's size as the short side, to the nearest multiple of 8
        ({}, (480, 640), (256, 344)),
        ({}, (333, 333), (256, 256)),
        ({"width": 320}, (640, 480), (320, 240)),
        ({"height": 128}, (640, 320), (256, 128)),
        ({"width": 512, "height": 64}, (10, 10), (512, 64)),
        ({"width": 64}, (4000, 100), (64, 64)),  # never below the smallest side
        ({}, (2000, 20), (8192, 80)),  # nor above the largest, however long and thin the source is
        ({}, (4, 20000), (64, 8192)),
        ({"height": 256}, (20000, 4), (8192, 256)),
        ({"width": 256}, (4, 20000), (256, 8192)),
    ],
)
def test_picture_size(values: dict[str, Any], source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert picture_size(Settings(**values), *source, 256) == expected


@unhurried
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), default=st.integers(8, 1024))
def test_picture_size_is_always_one_that_streams(width: int, height: int, default: int) -> None:
    for side in picture_size(Settings(), width, height, default):
        assert module.SMALLEST_SIDE <= side <= module.LARGEST_SIDE
        assert side % module.SIZE_STEP == 0


def test_default_path_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.platformdirs, "user_config_dir", lambda *_, **__: str(tmp_path / "vitrail"))
    assert module.default_path() == tmp_path / "vitrail" / "settings.json"


@pytest.mark.parametrize("device", ["cuda:1", "xpu:0", "cpu", "auto"])
def test_a_device_may_have_a_number(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "toaster:1", ":1", 1, ["cuda"]])
def test_what_is_no_device_is_refused(device: object) -> None:
    with pytest.raises(ValueError, match="it must be one of auto, cpu"):
        Settings(device=device)  # type: ignore[arg-type]
