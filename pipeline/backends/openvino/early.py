"""Engines of the last process, made ready beside the rest of a start, before anybody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Engine = TypeVar("Engine")

# Reading an engine is half waiting and half unpacking weights on one core.
_THREADS = 2


class EarlyEngines(Generic[Engine]):
    """Begins to make the engines of ``keys`` at once, in their order.

    Args:
        make: gives the engine of a key, or None where there is none that can be used; called on other threads.
        keys: of the engines.
    """

    def __init__(self, make: Callable[[str], Engine | None], keys: Iterable[str]) -> None:
        self._futures: dict[str, Future[Engine | None]] = {}
        keys = list(dict.fromkeys(keys))
        if keys:
            pool = ThreadPoolExecutor(_THREADS, "vitrail-early")
            self._futures = {key: pool.submit(make, key) for key in keys}
            pool.shutdown(wait=False)  # its threads end when this is done

    def take(self, key: str) -> Engine | None:
        """The engine of ``key``, once it is ready; None where it is not among them, or was taken before."""
        future = self._futures.pop(key, None)
        return None if future is None else future.result()

    def drop(self) -> None:
        """Let go of those that nobody has taken."""
        if self._futures:
            self._futures = {}
