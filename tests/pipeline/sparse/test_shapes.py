"""Which shapes of windows get a network, and which one runs a window."""

from __future__ import annotations

import math

from pipeline.sparse.shapes import AT_ONCE, EXACT_AFTER, ROUNDED_AFTER, UNUSED, Shape, Shapes, rounded_up

SIZE = (64, 64)
ONE_IN = 40


class Backend:
    """Builds at once whatever is asked for."""

    def __init__(self, most: int | None = 50) -> None:
        self.shapes = Shapes(most, ONE_IN)
        self.asked: list[Shape] = []

    def pick(self, *shape: int) -> Shape | None:
        def holds(other: Shape) -> bool:
            return all(one >= side for one, side in zip(other, shape, strict=True))

        def runs(other: Shape) -> bool:
            self.asked.append(other)
            return True

        both = shape, rounded_up((shape[0], shape[1]), SIZE, 1, 8)
        return self.shapes.pick(both, holds, runs, lambda other: float(math.prod(other)))


def test_any_shape_where_none_is_built() -> None:
    backend = Backend(None)
    assert backend.pick(11, 12) == (11, 12)
    assert backend.asked == []


def test_shapes_are_rounded_up_to_eighths_of_the_picture() -> None:
    assert rounded_up((9, 17), (64, 128), 1, 8) == (16, 32)
    assert rounded_up((9, 16), (64, 64), 4, 16) == (16, 16)
    assert rounded_up((9, 61), (64, 62), 4, 16) == (16, 62)
    assert rounded_up((9, 9), (32, 32), 1, 8) == (12, 12)


def test_ever_new_shapes_share_a_network() -> None:
    backend = Backend()
    found = [backend.pick(9, 8 + number) for number in range(1, 8)]
    assert backend.asked == [(16, 16)]
    assert found == [None] * (ROUNDED_AFTER - 1) + [(16, 16)] * (8 - ROUNDED_AFTER)


def test_a_shape_that_comes_often_gets_its_own() -> None:
    backend = Backend()
    found = [backend.pick(9, 9) for _ in range(EXACT_AFTER)]
    assert found == [None] * 2 + [(16, 16)] * (EXACT_AFTER - 3) + [(9, 9)]


def test_few_networks_are_ordered_at_a_time() -> None:
    backend = Backend()
    many = [(8 * number, 8) for number in range(1, 9)]
    for _ in range(ROUNDED_AFTER):
        for shape in many:
            backend.pick(*shape)
    assert len(backend.asked) == AT_ONCE
    for _ in range(ONE_IN // len(many) + 1):
        for shape in many:
            backend.pick(*shape)
    assert len(backend.asked) == AT_ONCE + 1


def test_a_network_makes_room_only_when_it_is_not_used_any_more() -> None:
    backend = Backend(most=1)
    for _ in range(ROUNDED_AFTER):
        backend.pick(8, 8)
    for _ in range(UNUSED - 10):
        assert backend.pick(16, 16) is None
    assert backend.asked == [(8, 8)]
    for _ in range(20):
        backend.pick(16, 16)
    assert backend.asked == [(8, 8), (16, 16)]
    assert backend.pick(16, 16) == (16, 16)
    assert backend.pick(8, 8) == (16, 16), "the other is gone"


def test_one_that_was_given_up_is_asked_for_again() -> None:
    backend = Backend()
    for _ in range(ROUNDED_AFTER):
        backend.pick(8, 8)
    backend.shapes.lost((8, 8))
    backend.pick(8, 8)
    assert backend.asked == [(8, 8)] * 2
