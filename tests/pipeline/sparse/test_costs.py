"""Which way is faster: by area, then by what has been measured."""

from __future__ import annotations

import pytest

from pipeline.sparse.costs import FORGET_AFTER, Costs

WHOLE = (64, 64)
QUARTER = 0.1 + 0.25


def test_costs_go_by_area_until_they_have_been_measured() -> None:
    costs = Costs(0.1)
    assert costs.share((32, 32), WHOLE) == pytest.approx(QUARTER)
    assert costs.share((3, 32, 32), WHOLE) == pytest.approx(0.1 + 0.75), "one call of three"
    assert costs.share(WHOLE, WHOLE) == 1
    assert costs.worth([(32, 32)] * 2, WHOLE)
    assert not costs.worth([(32, 32)] * 3, WHOLE)
    assert costs.worth([(32, 32)] * 3, WHOLE, rows=2)
    assert not costs.worth([WHOLE, (48, 64)], WHOLE, rows=2)


def test_what_one_shape_takes_tells_of_all() -> None:
    costs = Costs(0.1)
    costs.note((32, 32), WHOLE, 0.5)  # nothing is known yet of the whole
    assert costs.share((32, 32), WHOLE) == pytest.approx(QUARTER)
    costs.note(WHOLE, WHOLE, 2.0)
    for hiccup in (30, 1, 1, 30):
        costs.note((32, 32), WHOLE, 2.0 * 2 * QUARTER * hiccup)
    assert costs.share((32, 32), WHOLE) == pytest.approx(2 * QUARTER)
    assert costs.share((16, 16), WHOLE) == pytest.approx(2 * (0.1 + 1 / 16))
    assert not costs.worth([(32, 32)] * 2, WHOLE)


def test_what_was_slow_is_tried_again() -> None:
    costs = Costs(0.1)
    costs.note(WHOLE, WHOLE, 1.0)
    for _ in range(3):
        for _ in range(30):
            costs.note((32, 32), WHOLE, 5.0)
        found = [costs.worth([(32, 32)], WHOLE) for _ in range(FORGET_AFTER + 1)]
        assert found == [False] * FORGET_AFTER + [True]
    assert not any(costs.worth([(64, 48)] * 2, WHOLE) for _ in range(2 * FORGET_AFTER)), "that can never be worth it"
    costs.note((32, 32), WHOLE, QUARTER)
    assert costs.worth([(32, 32)], WHOLE)
