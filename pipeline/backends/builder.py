"""Builds engines on threads of its own, while something slower serves."""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import logging
import queue
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.backends.spec import Spec
from pipeline.models.errors import first_line

logger = logging.getLogger(__name__)

Engine = TypeVar("Engine")

# More than one stream uses at a time (encoder, decoder, denoiser, and one that records for the sparse engine), so
# that a setting can be changed and changed back. Engines of earlier settings are read from the disk again, which takes
# less than a second.
MOST_ENGINES = 6
# What could not be built is tried once more after so many seconds: memory may have been short for the time being, or
# another build in its way.
ATTEMPTS, RETRY_SECONDS = 2, 20.0
# An interpreter that ends waits up to so long for a build to finish. It ends all other threads wherever they are, and
# ending one inside of a library written in C++ crashes the whole process.
_LAST_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Order:
    """A specification that waits to be built, for the weights of a round; ``dropped`` once too many came after it."""

    round: int
    spec: Spec
    dropped: bool = False


class Builder(Generic[Engine]):
    """Builds and keeps engines by their specification. Asking for one that is not there orders it.

    The order that came last is built first, so that a user who changes their mind five times waits for the fifth only.
    Only the few engines that were used last are kept, as each has its own copy of the weights.

    Args:
        build: makes an engine of a specification; called on the builder's thread, and may take minutes.
        name: of the backend, for people.
        most: how many engines are kept, at least 1; the one unused for longest goes first.
        waiting: how many orders wait at most, by default as many as are kept; the oldest is given up first.
        threads: how many engines are built at a time.
        instead: what serves where an engine cannot be had, for people.
    """

    def __init__(
        self,
        build: Callable[[Spec], Engine],
        name: str,
        most: int = MOST_ENGINES,
        *,
        waiting: int | None = None,
        threads: int = 1,
        instead: str = "PyTorch",
    ) -> None:
        self._build = build
        self._name = name
        self._most = most
        self._most_waiting = most if waiting is None else waiting
        self._most_threads = threads
        self._instead = instead
        self._engines: dict[Spec, Engine] = {}
        self._used: dict[Spec, float] = {}  # when each was last asked for, by ``time.monotonic()``
        self._ordered: set[Spec] = set()
        self._failed: dict[Spec, tuple[int, float]] = {}  # how often, and when last
        self._told: set[str] = set()  # networks of which a failure was told
        self._news: list[str] = []
        self._orders: queue.LifoQueue[_Order | None] = queue.LifoQueue()
        self._changed = threading.Condition()
        self._waiting: deque[_Order] = deque()  # the same, the oldest first
        self._open = 0  # orders that are neither done nor given up
        self._rounds: Counter[str] = Counter()  # by part; engines of an earlier round are of weights that are gone
        self._closed = False
        self._threads: list[threading.Thread] = []

    def get(self, spec: Spec, *, patient: bool = False) -> Engine | None:
        """The engine for ``spec``; None while it is being built, and where it cannot be.

        Args:
            patient: wait while it is being built.
        """
        with self._changed:
            self._used[spec] = time.monotonic()
            if spec not in self._engines and spec not in self._ordered and self._may_try(spec):
                self._order(spec)
            if patient:
                self._changed.wait_for(lambda: spec not in self._ordered or spec in self._engines)
            return self._engines.get(spec)

    def ready(self) -> dict[Spec, Engine]:
        """All engines that are built, by specification."""
        return dict(self._engines)

    def news(self) -> list[str]:
        """What could not be built or run since the last call, in one sentence for each network."""
        with self._changed:
            news, self._news = self._news, []
            return news

    def failed(self, spec: Spec, error: Exception) -> None:
        """The engine for ``spec`` cannot be run: it is given up, and its failure is told."""
        with self._changed:
            self._engines = {one: engine for one, engine in self._engines.items() if one != spec}
        self._give_up(spec, error, f"{self._name} failed while it ran the {spec.network}")

    def clear(self, part: str | None = None) -> None:
        """Forget the engines and orders of a part (None: of all): what is asked for from now on is built anew."""

        def stays(spec: Spec) -> bool:
            return part is not None and spec.part != part

        with self._changed:
            for gone in {part} if part is not None else {*self._rounds, *(spec.part for spec in self._ordered)}:
                self._rounds[gone] += 1
            self._engines = {spec: engine for spec, engine in self._engines.items() if stays(spec)}
            self._ordered = set(filter(stays, self._ordered))
            self._used = {spec: at for spec, at in self._used.items() if stays(spec)}
            self._failed = {spec: times for spec, times in self._failed.items() if stays(spec)}
            self._told = {spec.network for spec in self._failed}
            self._changed.notify_all()

    def wait(self) -> None:
        """Sleep until nothing is ordered any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)

    def close(self) -> None:
        """Build nothing more; an engine that is being built is finished, and then dropped."""
        self.clear()
        with self._changed:
            self._closed = True
            self._waiting.clear()
            with contextlib.suppress(queue.Empty):
                while self._orders.get_nowait() is not None:
                    self._open -= 1
            self._changed.notify_all()
        for _ in range(max(1, len(self._threads))):
            self._orders.put(None)

    def has(self, spec: Spec) -> bool:
        """Whether the engine for ``spec`` is there."""
        return spec in self._engines

    def building(self, spec: Spec) -> bool:
        """Whether the engine for ``spec`` is ordered, and not there yet."""
        return spec in self._ordered and not self.has(spec)

    def _may_try(self, spec: Spec) -> bool:
        times, last = self._failed.get(spec, (0, 0.0))
        return not self._closed and (times == 0 or (times < ATTEMPTS and time.monotonic() - last >= RETRY_SECONDS))

    def _order(self, spec: Spec) -> None:
        with self._changed:
            self._ordered.add(spec)
            self._open += 1
            order = _Order(self._rounds[spec.part], spec)
            self._waiting.append(order)
            if len(self._waiting) > self._most_waiting:  # the first of them would be given up again before it is used
                oldest = self._waiting.popleft()
                oldest.dropped = True
                self._ordered.discard(oldest.spec)
            self._orders.put(order)
            if len(self._threads) < self._most_threads:
                # A daemon: a compiler cannot be interrupted, and must not keep the program from ending.
                thread = threading.Thread(target=self._run, name="vitrail-engines", daemon=True)
                self._threads.append(thread)
                thread.start()
                weakref.finalize(self, _leave, self._orders, thread)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            spec, engine = order.spec, None
            with self._changed:
                if order in self._waiting:
                    self._waiting.remove(order)
            try:
                if not order.dropped and order.round == self._rounds[spec.part]:
                    engine = self._build(spec)
            except Exception as error:  # noqa: BLE001 - a compiler may raise anything; the model itself goes on
                if order.round == self._rounds[spec.part]:  # what was given up in the meantime is nobody's concern
                    self._give_up(spec, error, f"{self._name} cannot run the {spec.network}")
            with self._changed:
                if engine is not None and order.round == self._rounds[spec.part]:
                    self._keep(spec, engine)
                self._open -= 1
                self._changed.notify_all()
            del engine  # so that this thread keeps no engine alive while it waits for its next order
            _give_back()

    def _give_up(self, spec: Spec, error: Exception, what: str) -> None:
        logger.warning("%s (%s), and %s does: %s", what, spec.described(), self._instead, error)
        with self._changed:
            times, _ = self._failed.get(spec, (0, 0.0))
            self._failed[spec] = times + 1, time.monotonic()
            self._ordered.discard(spec)
            # Told once for each network: what fails for one size mostly fails for all.
            if spec.network not in self._told:
                self._told.add(spec.network)
                self._news.append(f"{what}; {self._instead} does, more slowly: {first_line(error)}")
            self._changed.notify_all()

    def _keep(self, spec: Spec, engine: Engine) -> None:
        kept = heapq.nlargest(self._most - 1, self._engines, key=lambda one: self._used.get(one, 0.0))
        for gone in self._engines.keys() - kept:
            self._ordered.discard(gone)  # to be built again where it is asked for again
        self._engines = {**{one: self._engines[one] for one in kept}, spec: engine}
        self._used = {one: at for one, at in self._used.items() if one in self._engines or one in self._ordered}


def _leave(orders: queue.LifoQueue[_Order | None], thread: threading.Thread) -> None:
    """Have the builder's thread end, and wait for it. Called when the interpreter ends, or the builder is collected."""
    orders.put(None)
    if thread is not threading.current_thread():
        thread.join(_LAST_SECONDS)


def _give_back() -> None:
    """Return to the system what a build has freed, some hundred megabytes; glibc alone would keep most of it."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
