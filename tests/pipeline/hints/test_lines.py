"""Hints that are lines: what each shows of a picture whose outlines are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipeline.hints.canny import canny
from pipeline.hints.pixels import Draw, drawn
from pipeline.hints.sketch import sketch
from pipeline.hints.soft_edges import soft_edges


def disc(side: int = 128, *, texture: int = 0) -> np.ndarray:
    """(side, side, 3) uint8: a blue disc on grey, with as many grey levels of noise."""
    picture = np.full((side, side, 3), 120, np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 3, (20, 40, 200), -1)
    noise = np.random.default_rng(0).integers(-texture, texture + 1, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def outline(side: int, width: int) -> np.ndarray:
    """(side, side) bool: where the disc's outline is, and around."""
    return cv2.circle(np.zeros((side, side), np.uint8), (side // 2, side // 2), side // 3, 255, width) > 0


def test_canny_is_opencvs_with_the_usual_thresholds() -> None:
    picture = disc(texture=40)
    frame = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / 255)
    found = drawn(frame[None], canny)
    assert found.shape == (1, 3, 128, 128)
    expected = torch.from_numpy(cv2.Canny(picture, 100, 200)).float() / 255
    assert 0 < expected.mean() < 1
    assert torch.equal(found, expected.expand(1, 3, -1, -1))


@pytest.mark.parametrize("draw", [canny, sketch, soft_edges])
def test_the_outline_is_white_and_the_rest_black(draw: Draw) -> None:
    lines = draw(disc()).astype(np.float32) / 255
    assert lines.shape == (128, 128)
    y, x = np.mgrid[0:128, 0:128] - 64
    sixths = np.floor(np.degrees(np.arctan2(y, x)) % 360 / 6)
    assert min(lines[outline(128, 6) & (sixths == sixth)].max() for sixth in range(60)) > 0.9
    assert lines[~outline(128, 20)].max() < 0.05


@pytest.mark.parametrize("draw", [sketch, soft_edges])
def test_texture_that_canny_follows_stays_dark(draw: Draw) -> None:
    picture, far = disc(512, texture=60), ~outline(512, 40)
    assert canny(picture)[far].mean() > 3 * draw(picture)[far].mean()


@pytest.mark.parametrize("draw", [canny, sketch, soft_edges])
def test_a_picture_of_nothing_has_no_lines(draw: Draw) -> None:
    noise = np.random.default_rng(0).integers(118, 123, (96, 128, 3)).astype(np.uint8)
    assert draw(noise).mean() < 40


def test_a_sketch_has_no_crumbs_and_a_pen_of_its_own_width() -> None:
    picture = np.full((512, 512, 3), 220, np.uint8)
    cv2.rectangle(picture, (250, 250), (255, 255), (0, 0, 0), -1)  # an outline of 24 pixels
    cv2.line(picture, (50, 100), (450, 100), (0, 0, 0), 40)
    lines = sketch(picture)
    assert not lines[240:266, 240:266].any()
    assert lines[60:140, 250].any()
    widths = np.diff(np.flatnonzero(np.diff(np.r_[0, lines[:, 250] > 0, 0])))[::2]
    assert set(widths) == {3}
