"""The bounded queue: order, both policies, closing at any moment, with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.frame_queue import Closed, FrameQueue, Policy
from tests.app.fakes import SAFETY_SECONDS


def test_first_in_first_out() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 3)
    for item in range(3):
        assert queue.put(item) == []
    assert [queue.get() for _ in range(3)] == [0, 1, 2]
    assert queue.dropped == 0


def test_newest_wins_drops_the_oldest_and_says_which() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.NEWEST_WINS, 2)
    assert [queue.put(item) for item in range(5)] == [[], [], [0], [1], [2]]
    assert queue.dropped == 3
    assert [queue.get(), queue.get()] == [3, 4]


@settings(deadline=None)
@given(items=st.lists(st.integers(), max_size=40), capacity=st.integers(1, 5))
def test_newest_wins_keeps_exactly_the_last(items: list[int], capacity: int) -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.NEWEST_WINS, capacity)
    displaced = [old for item in items for old in queue.put(item)]
    queue.close()
    kept = _drain(queue)
    assert displaced + kept == items
    assert len(kept) == min(capacity, len(items))


def test_put_waits_for_room() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 1)
    queue.put(0)
    with pytest.raises(TimeoutError):
        queue.put(1, timeout=0.01)
    put = _in_thread(lambda: queue.put(1))
    assert queue.get(SAFETY_SECONDS) == 0
    assert queue.get(SAFETY_SECONDS) == 1
    put.join(SAFETY_SECONDS)
    assert not put.is_alive()


def test_get_times_out() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 1)
    with pytest.raises(TimeoutError):
        queue.get(timeout=0.01)


def test_close_lets_the_consumer_drain() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 2)
    queue.put(1)
    queue.put(2)
    queue.close()
    with pytest.raises(Closed):
        queue.put(3)
    assert _drain(queue) == [1, 2]
    assert queue.closed


def test_close_without_drain_discards() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 2)
    queue.put(1)
    queue.close(drain=False)
    with pytest.raises(Closed):
        queue.get()


@pytest.mark.parametrize("drain", [True, False])
def test_close_wakes_everyone(drain: bool) -> None:
    full: FrameQueue[int] = FrameQueue(Policy.WAIT, 1)
    full.put(0)
    empty: FrameQueue[int] = FrameQueue(Policy.WAIT, 1)
    ended: list[str] = []

    def put() -> None:
        with pytest.raises(Closed):
            full.put(1)
        ended.append("put")

    def get() -> None:
        with pytest.raises(Closed):
            empty.get()
        ended.append("get")

    threads = [_in_thread(put), _in_thread(put), _in_thread(get), _in_thread(get)]
    full.close(drain=drain)
    empty.close(drain=drain)
    for thread in threads:
        thread.join(SAFETY_SECONDS)
    assert sorted(ended) == ["get", "get", "put", "put"]


def test_follow_wakes_a_waiting_put() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 3)
    for item in range(3):
        queue.put(item)
    displaced: list[int] = []
    put = _in_thread(lambda: displaced.extend(queue.put(3)))
    queue.follow(Policy.NEWEST_WINS, 1)
    put.join(SAFETY_SECONDS)
    assert displaced == [0, 1, 2]
    assert queue.policy is Policy.NEWEST_WINS
    assert queue.get() == 3


def test_clear_makes_room_and_is_not_counted_as_dropping() -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 1)
    queue.put(0)
    put = _in_thread(lambda: queue.put(1))
    assert queue.clear()[0] == 0
    put.join(SAFETY_SECONDS)
    assert not put.is_alive()
    assert queue.dropped == 0


@pytest.mark.parametrize("capacity", [0, -1])
def test_capacity_is_checked(capacity: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FrameQueue(Policy.WAIT, capacity)


@pytest.mark.parametrize(("producers", "consumers"), [(1, 1), (3, 2)])
def test_nothing_is_lost_or_doubled_under_stress(producers: int, consumers: int) -> None:
    queue: FrameQueue[int] = FrameQueue(Policy.WAIT, 2)
    taken: list[list[int]] = [[] for _ in range(consumers)]
    each = 300
    sends = [
        _in_thread(lambda first=first: [queue.put(item) for item in range(first, each * producers, producers)])
        for first in range(producers)
    ]
    takes = [_in_thread(lambda mine=mine: mine.extend(_drain(queue))) for mine in taken]
    for thread in sends:
        thread.join(SAFETY_SECONDS)
    queue.close()
    for thread in takes:
        thread.join(SAFETY_SECONDS)
    assert sorted(item for mine in taken for item in mine) == list(range(each * producers))
    assert queue.dropped == 0


def _drain(queue: FrameQueue[int]) -> list[int]:
    items = []
    while True:
        try:
            items.append(queue.get(SAFETY_SECONDS))
        except Closed:
            return items


def _in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread
