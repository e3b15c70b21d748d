"""A bounded queue between two threads: newest wins for live pictures, wait for files."""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class Closed(Exception):
    """The queue is closed: nothing can be put, and everything that was to be had has been taken."""


class Policy(Enum):
    """What a full queue does with one item more."""

    NEWEST_WINS = "newest wins"  # the oldest item makes room: a live picture is worth nothing when it is late
    WAIT = "wait"  # the producer waits for room: every frame of a file counts


# (policy, capacity). A second place would cost a live picture one more frame of latency; for a file it evens out
# frames that take longer than others.
LIVE = (Policy.NEWEST_WINS, 1)
FILE = (Policy.WAIT, 2)


class FrameQueue(Generic[T]):
    """First in, first out, never more than ``capacity`` items, safe for any number of threads.

    Nothing here polls: a waiting thread sleeps until an item, room or the end wakes it.

    Args:
        policy: what a full queue does.
        capacity: the most items held, at least 1. Both can be replaced at any time, as sources are (``follow``).
        beside: a queue whose consumer may wait for this one as well (``get_or``).
    """

    def __init__(self, policy: Policy, capacity: int, beside: FrameQueue[Any] | None = None) -> None:
        self._policy, self._capacity = policy, _checked(capacity)
        self._items: deque[T] = deque()
        self._closed = False
        self._dropped = 0
        # One condition serves both directions: queues here are a few items long, with one thread at each end.
        self._changed = beside._changed if beside is not None else threading.Condition()

    def put(self, item: T, timeout: float | None = None) -> list[T]:
        """Add ``item``; under ``NEWEST_WINS`` at once, under ``WAIT`` as soon as there is room.

        Returns:
            The items that had to make room; mostly none, and more than one only after ``follow`` has cut the capacity.

        Raises:
            Closed: the queue is closed, or was while this call waited. ``item`` was not added.
            TimeoutError: there was no room for ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(self._can_put, timeout):
                raise TimeoutError(f"no room in the queue for {timeout:g} s")
            if self._closed:
                raise Closed
            displaced = []
            while len(self._items) >= self._capacity:
                displaced.append(self._items.popleft())
            self._dropped += len(displaced)
            self._items.append(item)
            self._changed.notify_all()
            return displaced

    def get(self, timeout: float | None = None) -> T:
        """Take the oldest item; wait for one if there is none.

        Raises:
            Closed: the queue is closed and empty.
            TimeoutError: nothing came for ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._closed, timeout):
                raise TimeoutError(f"nothing in the queue for {timeout:g} s")
            if not self._items:
                raise Closed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def get_or(self, other: FrameQueue[S]) -> T | S:
        """Take this queue's oldest item, or where it has none the oldest of ``other``; wait for one if there is none.

        One of the two must have been made ``beside`` the other.

        Raises:
            Closed: this queue is closed and empty, whatever is left in the other.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or other._items or self._closed)
            return self.get() if self._items or self._closed else other.get()

    def clear(self) -> list[T]:
        """Take everything out at once, uncounted by ``dropped``; a waiting ``put`` then has room."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items

    def close(self, *, drain: bool = True) -> None:
        """Wake everyone, for good. With ``drain`` what is queued can still be taken; without, it is discarded."""
        with self._changed:
            self._closed = True
            if not drain:
                self._items.clear()
            self._changed.notify_all()

    def follow(self, policy: Policy, capacity: int) -> None:
        """Take another policy and capacity; a waiting ``put`` wakes and goes by them."""
        with self._changed:
            self._policy, self._capacity = policy, _checked(capacity)
            self._changed.notify_all()

    @property
    def policy(self) -> Policy:
        """What a full queue does at present."""
        return self._policy

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called; items may be left to take."""
        return self._closed

    @property
    def dropped(self) -> int:
        """How many items have had to make room for newer ones so far."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._items)

    def _can_put(self) -> bool:
        return self._closed or self._policy is Policy.NEWEST_WINS or len(self._items) < self._capacity


def _checked(capacity: int) -> int:
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}; it must be at least 1")
    return capacity
