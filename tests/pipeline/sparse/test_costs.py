"""Which way is faster: by area, then by what has been measured."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pipeline.sparse.costs import RETRY_AFTER, RETRY_AT_MOST, Costs
from pipeline.sparse.stopwatch import EventStopwatch, HostStopwatch, stopwatch_for

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


def test_what_was_slow_is_tried_again_and_ever_more_seldom() -> None:
    costs = Costs(0.1)
    costs.note(WHOLE, WHOLE, 1.0)
    for wait in (RETRY_AFTER, 2 * RETRY_AFTER, 4 * RETRY_AFTER):
        for _ in range(30):
            costs.note((32, 32), WHOLE, 5.0)
        found = [costs.worth([(32, 32)], WHOLE) for _ in range(wait + 1)]
        assert found == [False] * wait + [True]
    assert not any(costs.worth([(64, 48)] * 2, WHOLE) for _ in range(2 * RETRY_AT_MOST)), "that can never be worth it"
    for _ in range(12):
        costs.note((32, 32), WHOLE, QUARTER)
    assert costs.worth([(32, 32)], WHOLE)
    for _ in range(12):
        costs.note((32, 32), WHOLE, 5.0)
    assert [costs.worth([(32, 32)], WHOLE) for _ in range(RETRY_AFTER + 1)] == [False] * RETRY_AFTER + [True], (
        "it was fast in between"
    )


def test_what_never_pays_is_tried_in_few_of_all_calls() -> None:
    costs = Costs(0.1)
    costs.note(WHOLE, WHOLE, 1.0)
    tried = 0
    for _ in range(20 * RETRY_AT_MOST):
        if costs.worth([(32, 32)], WHOLE):
            costs.note((32, 32), WHOLE, 5.0)
            tried += 1
    assert 20 <= tried < 30


class Device:
    """A queue that is at work behind the host: its clock, and how far it has come."""

    def __init__(self) -> None:
        self.queued = 0.0  # what has been queued takes until then
        self.now = 0.0

    def watch(self) -> Watch:
        return Watch(self)

    def call(self, costs: Costs, part: tuple[int, ...], seconds: float, share: float = 1.0) -> None:
        started = costs.start()
        self.queued += seconds
        costs.stop(started, part, WHOLE, share)


class Watch:
    """As one of events in that queue."""

    def __init__(self, device: Device) -> None:
        self._device, self._start, self._end = device, device.queued, float("inf")

    def stop(self) -> None:
        self._end = self._device.queued

    @property
    def seconds(self) -> float | None:
        return self._end - self._start if self._device.now >= self._end else None


def test_a_device_that_works_behind_the_host_is_never_waited_for_and_learned_from_later() -> None:
    device = Device()
    costs = Costs(0.1, device.watch)
    device.call(costs, WHOLE, 2.0)
    device.call(costs, (32, 32), 2.0 * 3 * QUARTER)
    assert costs.share((32, 32), WHOLE) == pytest.approx(QUARTER), "nothing is known yet"
    assert costs.worth([(32, 32)], WHOLE)
    device.now = 2.0  # the whole has been computed, the window has not
    assert costs.worth([(32, 32)], WHOLE)
    device.now = device.queued
    assert not costs.worth([(32, 32)], WHOLE), "windows are slower than the whole here"
    assert costs.share((32, 32), WHOLE) == pytest.approx(3 * QUARTER)


def test_a_call_that_does_more_counts_by_its_share_and_one_that_is_not_stopped_not_at_all() -> None:
    device = Device()
    costs = Costs(0.1, device.watch)
    device.call(costs, WHOLE, 8.0, share=0.25)
    costs.start()
    device.queued += 100
    device.call(costs, (32, 32), 2.0 * QUARTER)
    device.now = device.queued
    costs.worth([], WHOLE)
    assert costs.share((32, 32), WHOLE) == pytest.approx(QUARTER)


def test_measurements_that_never_come_are_dropped() -> None:
    device = Device()
    costs = Costs(0.1, device.watch)
    for _ in range(1000):
        device.call(costs, WHOLE, 1.0)
    assert len(costs._pending) < 100


def test_which_clock_measures_a_device() -> None:
    assert stopwatch_for(torch.device("cpu")) is HostStopwatch
    for kind in ("cuda", "xpu"):
        found = stopwatch_for(torch.device(kind, 1))
        assert isinstance(found, partial)
        assert found.func is EventStopwatch
        assert found.args == (torch.device(kind, 1),)
    assert stopwatch_for(torch.device("mps")) is None, "the host would measure how long it takes to queue"


def test_the_hosts_clock_shows_nothing_until_it_is_stopped() -> None:
    watch = HostStopwatch()
    assert watch.seconds is None
    watch.stop()
    first = watch.seconds
    assert first is not None
    assert first >= 0
    assert watch.seconds == first
