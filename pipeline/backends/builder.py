"""Builds engines one after the other on a thread of its own, while the model itself serves."""

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
from collections.abc import Callable
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

Engine = TypeVar("Engine")
# What an engine is built for; hashable, and JSON-able, so that it can be part of a key.
Spec = tuple[Any, ...]

# The autoencoder's two, and a UNet's for full and for warming-up batches: what one stream uses. Those of the settings
# before come back from the disk in less than a second.
MOST_ENGINES = 5
# An interpreter that ends waits for so long until nothing is being built: it ends other threads wherever they are, and
# a thread that is ended inside of a library written in C++ ends the whole process, with a crash.
_LAST_SECONDS = 5.0


class Builder(Generic[Engine]):
    """Engines by specification; whoever asks for one that is not there orders it.

    The order that came last is built first: who changes their mind five times waits for the fifth only. An engine has
    its own copy of the weights, so that only the few that were used last are kept.

    Args:
        build: makes an engine of a specification; called on the builder's thread, and may take minutes.
        name: of the backend, for the log.
        most: how many engines are kept, at least 1; the one unused for longest goes first.
    """

    def __init__(self, build: Callable[[Spec], Engine], name: str, most: int = MOST_ENGINES) -> None:
        self._build = build
        self._name = name
        self._most = most
        self._engines: dict[Spec, Engine] = {}
        self._used: dict[Spec, float] = {}  # when each was last asked for, by ``time.monotonic()``
        self._ordered: set[Spec] = set()
        self._failed: set[str] = set()  # parts of which a failure was told
        self._news: list[str] = []
        self._orders: queue.LifoQueue[tuple[int, Spec] | None] = queue.LifoQueue()
        self._changed = threading.Condition()
        self._open = 0  # orders that are neither done nor given up
        self._round = 0  # engines of an earlier round are of weights that are gone
        self._thread: threading.Thread | None = None

    def get(self, spec: Spec) -> Engine | None:
        """The engine for ``spec``, or None while it is being built or where it cannot be. Never waits."""
        engine = self._engines.get(spec)
        self._used[spec] = time.monotonic()
        if engine is None and spec not in self._ordered:
            self._order(spec)
        return engine

    def ready(self) -> dict[Spec, Engine]:
        """All engines that are built, by specification."""
        return dict(self._engines)

    def news(self) -> list[str]:
        """What could not be built since the last call, in one sentence for each part of the model."""
        with self._changed:
            news, self._news = self._news, []
            return news

    def clear(self) -> None:
        """Forget all engines and orders: what is asked for from now on is built anew."""
        with self._changed:
            self._round += 1
            self._engines = {}
            self._ordered = set()
            self._used = {}
            self._failed = set()
            self._news = []

    def wait(self) -> None:
        """Sleep until nothing is ordered any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)

    def close(self) -> None:
        """Build nothing more; an engine that is being built is finished in vain."""
        self.clear()
        self._orders.put(None)

    def _order(self, spec: Spec) -> None:
        with self._changed:
            self._ordered.add(spec)
            self._open += 1
            self._orders.put((self._round, spec))
            if self._thread is None:
                # A daemon: a compiler cannot be interrupted, and must not keep the program from ending.
                self._thread = threading.Thread(target=self._run, name="vitrail-engines", daemon=True)
                self._thread.start()
                weakref.finalize(self, _leave, self._orders, self._thread)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            number, spec = order
            engine = None
            try:
                if number == self._round:
                    engine = self._build(spec)
            except Exception as error:  # noqa: BLE001 - a compiler may raise anything; the model itself goes on
                if number == self._round:  # what was given up in the meantime is nobody's concern
                    self._tell_failure(spec, error)
            with self._changed:
                if engine is not None and number == self._round:
                    self._keep(spec, engine)
                self._open -= 1
                self._changed.notify_all()
            del engine  # this thread waits for its next order with nothing in hand
            _give_back()

    def _tell_failure(self, spec: Spec, error: Exception) -> None:
        logger.warning("%s cannot be used for %s, the model runs without: %s", self._name, spec, error)
        part = str(spec[0])
        with self._changed:
            if part in self._failed:
                return  # what fails for one size mostly fails for all, and need not be told for each
            self._failed.add(part)
            self._news.append(f"{self._name} cannot run the {part}; PyTorch does, more slowly: {_first_line(error)}")

    def _keep(self, spec: Spec, engine: Engine) -> None:
        kept = heapq.nlargest(self._most - 1, self._engines, key=lambda one: self._used.get(one, 0.0))
        for gone in self._engines.keys() - kept:
            self._ordered.discard(gone)  # to be built again where it is asked for again
            self._used.pop(gone, None)
        self._engines = {**{one: self._engines[one] for one in kept}, spec: engine}


def _leave(orders: queue.LifoQueue[tuple[int, Spec] | None], thread: threading.Thread) -> None:
    """The interpreter ends; or nobody holds the builder any more, whose thread has then ended, too."""
    orders.put(None)
    if thread is not threading.current_thread():
        thread.join(_LAST_SECONDS)


def _give_back() -> None:
    """Return to the system what a build has freed, some hundred megabytes; glibc alone would keep most of it."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
