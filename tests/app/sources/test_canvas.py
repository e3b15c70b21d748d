"""A drawing as a source."""

from __future__ import annotations

import numpy as np
import pytest

from app.drawing import Brush, Drawing
from app.sources import SourceError, open_source
from app.sources.canvas import CanvasSource
from tests.app.media import assert_close_ends_a_read


def test_frames_show_the_drawing_and_tell_what_changed():
    drawing = Drawing(96, 64)
    source = CanvasSource(drawing, fps=500)
    source.open()
    first = source.read()
    still = source.read()
    drawing.stroke([(10, 10)], Brush(size=6))
    drawn = source.read()
    source.close()
    assert first is not None
    assert still is not None
    assert drawn is not None
    assert [first.index, still.index, drawn.index] == [0, 1, 2]
    assert still.pixels is first.pixels
    assert first.changes is not None
    assert first.changes.since(0) == ()
    assert still.changes is not None
    assert still.changes.since(0) == ()
    assert drawn.changes is not None
    changed = drawn.changes.since(0)
    assert changed is not None
    assert len(changed) == 1
    area = changed[0]
    differs = np.argwhere((drawn.pixels != first.pixels).any(axis=2))
    assert differs.min(axis=0).tolist() >= [area.y, area.x]
    assert differs.max(axis=0).tolist() < [area.bottom, area.right]
    assert area.width < 12


def test_a_drawing_outlives_its_source():
    drawing = Drawing(64, 64)
    for _ in range(2):
        drawing.stroke([(10, 10)], Brush())
        source = CanvasSource(drawing, fps=500)
        source.open()
        frame = source.read()
        source.close()
        assert source.read() is None
        assert frame is not None
        assert frame.changes is not None
        assert frame.changes.index == 0


def test_close_ends_a_wait():
    assert_close_ends_a_read(CanvasSource(fps=0.001))


def test_a_canvas_is_named_by_its_size():
    source = open_source("canvas:320x200")
    assert isinstance(source, CanvasSource)
    assert source.drawing.size == (320, 200)
    assert isinstance(open_source("canvas"), CanvasSource)


@pytest.mark.parametrize("spec", ["canvas:10x10", "canvas:wide", "canvas:100x", "canvas:99999x99999"])
def test_a_canvas_of_a_wrong_size_is_refused(spec: str):
    with pytest.raises(SourceError, match="canvas:WIDTHxHEIGHT"):
        open_source(spec)
