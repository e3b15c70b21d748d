"""Which shapes of windows get a network, and which one runs a window."""

from __future__ import annotations

import math
import random

from pipeline.sparse.window_shapes import FIRST, FIRST_EVERY, REMEMBERED, Shape, WindowShapes

AREA = 64 * 64
ONE_IN = 40


def cost(shape: Shape) -> float:
    return 0.1 + math.prod(shape) / AREA


def holds(other: Shape, shape: Shape) -> bool:
    return other[:-2] == shape[:-2] and other[-2] >= shape[-2] and other[-1] >= shape[-1]


class Backend:
    """Builds at once whatever is asked for."""

    def __init__(self, most: int | None = 50, one_in: int = ONE_IN) -> None:
        self.shapes = WindowShapes(most, one_in)
        self.asked: list[Shape] = []

    def pick(self, *shape: int) -> Shape | None:
        def runs(other: Shape) -> bool:
            self.asked.append(other)
            return True

        return self.shapes.pick(shape, lambda other: holds(other, shape), runs, cost)


def test_any_shape_where_none_is_built() -> None:
    backend = Backend(None)
    assert backend.pick(11, 12) == (11, 12)
    assert backend.asked == []


def test_ever_new_shapes_share_a_network() -> None:
    backend = Backend()
    found = [backend.pick(*shape) for shape in ((9, 13), (12, 10), (11, 11), (8, 12))]
    assert backend.asked == [(12, 13)], "the smallest that holds them all"
    assert found == [None] * (FIRST_EVERY - 1) + [(12, 13)] * 2


def test_a_shape_that_comes_again_and_again_gets_its_own() -> None:
    backend = Backend()
    assert backend.pick(32, 32) is None
    found = [backend.pick(16, 16) for _ in range(30)]
    assert backend.asked == [(32, 32), (16, 16)]
    assert found[FIRST_EVERY - 2] == (32, 32)
    assert found[-1] == (16, 16)


def test_few_networks_serve_a_crowd_nearly_as_well_as_one_for_each() -> None:
    chance = random.Random(1)
    crowd = [(4 * chance.randint(4, 14), 4 * chance.randint(4, 14)) for _ in range(60)]
    backend = Backend(most=8, one_in=4)
    for _ in range(600):
        backend.pick(*chance.choice(crowd))
    wanted = [chance.choice(crowd) for _ in range(300)]
    asked = len(backend.asked)
    found = [backend.pick(*shape) for shape in wanted]
    taken = sum(1.0 if one is None else min(1.0, cost(one)) for one in found)
    assert taken < 1.2 * sum(min(1.0, cost(shape)) for shape in wanted)
    assert len(backend.asked) < asked + 10, "it goes on building others that are hardly any better"


def test_few_networks_are_ordered_at_a_time() -> None:
    backend = Backend()
    many = [(4 * number, 44 - 4 * number) for number in range(1, 11)]
    for number in range(FIRST_EVERY * FIRST):
        backend.pick(*many[number % len(many)])
    assert len(backend.asked) == FIRST
    for number in range(ONE_IN - 1):
        backend.pick(*many[number % len(many)])
    assert len(backend.asked) == FIRST
    for shape in many:
        backend.pick(*shape)
    assert len(backend.asked) == FIRST + 1


def test_a_network_that_would_hardly_be_faster_is_not_built() -> None:
    backend = Backend(one_in=1)
    for _ in range(REMEMBERED):
        for shape in ((16, 16), (16, 15)) if len(backend.asked) else ((16, 16),):
            backend.pick(*shape)
    assert backend.asked == [(16, 16)], "the other would save half a picture's time in all that is remembered"


def test_one_makes_room_for_one_that_serves_better_by_now() -> None:
    backend = Backend(most=1, one_in=4)
    for _ in range(20):
        backend.pick(32, 32)
    assert backend.pick(8, 8) == (32, 32), "it stands in"
    for _ in range(20):
        backend.pick(8, 8)
    assert backend.asked == [(32, 32)], "without it what came before could not be run"
    for _ in range(REMEMBERED):
        backend.pick(8, 8)
    assert backend.asked == [(32, 32), (8, 8)]
    assert backend.pick(8, 8) == (8, 8)
    assert backend.pick(32, 32) is None, "the other is gone"


def test_windows_of_several_rows_are_kept_apart() -> None:
    backend = Backend()
    for _ in range(FIRST_EVERY):
        backend.pick(2, 16, 16)
    assert backend.pick(2, 8, 8) == (2, 16, 16)
    assert backend.pick(1, 8, 8) is None


def test_one_that_was_given_up_is_asked_for_again() -> None:
    backend = Backend()
    for _ in range(FIRST_EVERY):
        backend.pick(8, 8)
    backend.shapes.lost((8, 8))
    backend.pick(8, 8)
    assert backend.asked == [(8, 8)] * 2
