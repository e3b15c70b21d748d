"""The drawing: what strokes look like, what undo brings back, what readers see, and that nobody waits for long."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from app import drawing as drawing_module
from app.drawing import Brush, Drawing

RED = (200, 0, 0)


def test_a_stroke_is_solid_inside_and_antialiased_at_its_edge():
    drawing = Drawing(64, 64)
    drawing.stroke([(16, 32), (48, 32.5)], Brush(RED, size=9))
    pixels = drawing.look().pixels
    assert (pixels[32, 32] == RED).all()
    assert (pixels[5, 5] == 255).all()
    column = pixels[:, 32, 1].astype(int)  # from paper (255) to paint (0) and back
    edge = column[(column > 0) & (column < 255)]
    assert 1 <= edge.size <= 4
    assert column.sum() == pytest.approx(255 * (64 - 9), abs=255 * 0.3)  # as wide as asked, in sum


def test_a_stroke_that_crosses_itself_is_no_darker():
    drawing = Drawing(64, 64)
    drawing.stroke([(10, 32), (54, 32), (10, 32), (54, 32)], Brush((0, 0, 0), size=8, opacity=0.5))
    assert (drawing.look().pixels[32, 12:52] == 128).all()


def test_a_soft_brush_fades_out():
    drawing = Drawing(128, 128)
    drawing.stroke([(64.5, 64.5)], Brush((0, 0, 0), size=80, hardness=0))
    row = drawing.look().pixels[64, 64:108, 0].astype(int)
    assert row[0] < 10
    assert (np.diff(row) >= 0).all()
    assert 100 < row[20] < 155


def test_pressure_makes_a_stroke_narrow():
    drawing = Drawing(128, 64)
    drawing.begin(10, 32, Brush(size=40))
    drawing.move(118, 32, pressure=0.1)
    drawing.end()
    dark = (drawing.look().pixels[..., 0] < 128).sum(axis=0)
    assert dark[15] > 30
    assert dark[115] < 8


def test_an_eraser_brings_back_paper_and_imported_picture():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :, 2] = np.arange(64)[None] * 4
    drawing = Drawing(64, 64)
    drawing.import_picture(picture)
    np.testing.assert_array_equal(drawing.look().pixels, picture)
    drawing.stroke([(0, 0), (63, 63)], Brush(RED, size=20))
    assert (drawing.look().pixels != picture).any()
    drawing.stroke([(0, 0), (63, 63)], Brush(size=30, eraser=True))
    np.testing.assert_array_equal(drawing.look().pixels, picture)
    drawing.clear()
    drawing.stroke([(9, 9), (50, 50)], Brush(RED))
    drawing.stroke([(9, 9), (50, 50)], Brush(size=40, eraser=True))
    assert (drawing.look().pixels == 255).all()


def test_an_imported_picture_keeps_its_shape():
    drawing = Drawing(100, 64)
    drawing.import_picture(np.zeros((320, 100, 3), np.uint8))
    pixels = drawing.look().pixels
    assert (pixels[:, 42:58] == 0).all()
    assert (pixels[:, :38] == 255).all()


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_not_imported(picture: np.ndarray):
    drawing = Drawing(64, 64)
    with pytest.raises(ValueError, match="a picture is"):
        drawing.import_picture(picture)
    assert drawing.revision == 0


def test_undo_and_redo_retrace_every_step():
    rng = random.Random(5)
    drawing = Drawing(200, 130)
    states = [drawing.look().pixels]
    for step in range(30):
        revision = drawing.revision
        _edit(drawing, rng, step)
        if drawing.revision > revision:  # a stroke beside the picture is no step
            states.append(drawing.look().pixels)
    assert len(states) > 25
    for state in reversed(states[:-1]):
        assert drawing.can_undo
        drawing.undo()
        np.testing.assert_array_equal(drawing.look().pixels, state)
    assert not drawing.can_undo
    drawing.undo()
    for state in states[1:]:
        drawing.redo()
        np.testing.assert_array_equal(drawing.look().pixels, state)
    assert not drawing.can_redo
    drawing.undo()
    drawing.stroke([(5, 5)], Brush())
    assert not drawing.can_redo  # another way was taken


def test_changes_are_told_exactly():
    """Whatever is done, and however often one looks: outside of ``changed`` nothing differs."""
    rng = random.Random(6)
    drawing = Drawing(200, 130)
    seen = [drawing.look()]
    for step in range(40):
        rng.choice([drawing.undo, drawing.redo, lambda step=step: _edit(drawing, rng, step)])()
        since = rng.choice(seen)
        look = drawing.look(since.revision)
        if look.changed is None:
            seen = [look]
            continue
        differs = (look.pixels != since.pixels).any(axis=2)
        for one in look.changed:
            differs[one.y : one.bottom, one.x : one.right] = False
        assert not differs.any()
        seen.append(look)


def test_patches_are_all_that_one_who_follows_needs():
    drawing = Drawing(256, 192)
    revision, (whole,) = drawing.patches()
    followed = whole.pixels
    choose = random.Random(5)
    for number in range(12):
        points = [(choose.uniform(-20, 280), choose.uniform(-20, 210)) for _ in range(3)]
        drawing.stroke(points, Brush(RED, size=choose.uniform(2, 30), eraser=number % 3 == 2))
        if number % 4 == 3:
            drawing.undo()
        revision, patches = drawing.patches(revision)
        assert sum(one.pixels.size for one in patches) < followed.size * 2
        for one in patches:
            followed[one.area.y : one.area.bottom, one.area.x : one.area.right] = one.pixels
        np.testing.assert_array_equal(followed, drawing.look().pixels)
    assert drawing.patches(revision) == (revision, [])


def test_a_dot_costs_a_dot_however_large_the_drawing_is():
    drawing = Drawing(4096, 4096)
    revision, _ = drawing.patches()
    drawing.begin(2000, 2000, Brush(size=16))
    _, patches = drawing.patches(revision)
    assert sum(one.area.width * one.area.height for one in patches) < 32 * 32


def test_a_slanted_stroke_changes_little():
    drawing = Drawing(512, 512)
    since = drawing.revision
    drawing.stroke([(20, 20), (490, 490)], Brush(size=6))
    changed = drawing.look(since).changed
    assert changed is not None
    assert sum(one.width * one.height for one in changed) < 0.15 * 512 * 512


def test_a_look_is_not_touched_by_later_strokes():
    drawing = Drawing(64, 64)
    look = drawing.look()
    assert drawing.look().pixels is look.pixels  # nothing changed, nothing copied
    drawing.stroke([(32, 32)], Brush())
    assert (look.pixels == 255).all()
    assert drawing.look(look.revision).changed != ()


def test_an_open_stroke_is_undone_whole_and_points_outside_are_fine():
    drawing = Drawing(64, 64)
    drawing.begin(-100, -100, Brush(RED, size=20))
    drawing.move(1e12, 1e12)
    drawing.move(float("nan"), 3)
    drawing.move(-1e12, -1e12)
    assert (drawing.look().pixels[30, 30] == RED).all()
    drawing.undo()
    assert (drawing.look().pixels == 255).all()
    drawing.move(5, 5)  # no stroke is open
    drawing.end()
    assert (drawing.look().pixels == 255).all()


def test_undo_is_bounded_by_its_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing_module, "UNDO_BYTES", 5 * 2 * 64 * 64 * 3)
    drawing = Drawing(64, 64)
    for _ in range(20):
        drawing.clear()
    steps = 0
    while drawing.can_undo:
        drawing.undo()
        steps += 1
    assert steps == 5


def test_resize_keeps_the_drawing():
    drawing = Drawing(64, 64)
    drawing.stroke([(32, 32)], Brush(RED, size=30))
    drawing.resize(128, 96)
    assert drawing.size == (128, 96)
    assert (drawing.look().pixels[48, 64] == RED).all()
    drawing.undo()
    assert drawing.size == (64, 64)


@pytest.mark.parametrize("values", [{"size": 0}, {"opacity": 0}, {"hardness": 2}, {"colour": (0, 0, 300)}])
def test_a_brush_checks_its_values(values: dict):
    with pytest.raises(ValueError, match="must be"):
        Brush(**values)


@pytest.mark.parametrize("size", [(10, 100), (100, 5000), (0, 0)])
def test_a_drawing_checks_its_size(size: tuple[int, int]):
    with pytest.raises(ValueError, match="sides must be"):
        Drawing(*size)
    with pytest.raises(ValueError, match="sides must be"):
        Drawing(64, 64).resize(*size)


def test_threads_paint_undo_and_look_at_once():
    """Every look is a state that the log accounts for, while two threads paint and a third takes back."""
    drawing = Drawing(160, 120)
    done = threading.Event()
    problems: list[str] = []

    def paint(seed: int) -> None:
        rng = random.Random(seed)
        for step in range(60):
            rng.choice([drawing.undo, drawing.redo, lambda step=step: _edit(drawing, rng, step, size=(160, 120))])()

    def watch() -> None:
        before = drawing.look()
        while not done.is_set():
            look = drawing.look(before.revision)
            if look.changed is not None and look.pixels.shape == before.pixels.shape:
                differs = (look.pixels != before.pixels).any(axis=2)
                for one in look.changed:
                    differs[one.y : one.bottom, one.x : one.right] = False
                if differs.any():
                    problems.append(f"untold change at revision {look.revision}")
            before = look

    painters = [threading.Thread(target=paint, args=(seed,)) for seed in range(2)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for one in painters:
        one.start()
    for one in painters:
        one.join()
    done.set()
    watcher.join()
    assert problems == []


def _edit(drawing: Drawing, rng: random.Random, step: int, size: tuple[int, int] = (200, 130)) -> None:
    if step % 11 == 7:
        drawing.import_picture(np.full((50, 70, 3), rng.randrange(256), np.uint8))
    elif step % 11 == 9:
        drawing.clear()
    else:
        points = [(rng.uniform(-20, size[0] + 20), rng.uniform(-20, size[1] + 20)) for _ in range(rng.randint(1, 4))]
        colour = rng.randrange(256), rng.randrange(256), rng.randrange(256)
        drawing.stroke(points, Brush(colour, rng.uniform(1, 40), rng.uniform(0.1, 1), rng.random(), rng.random() < 0.3))
