"""What a session says of itself: one state, and notices for people."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from app.engine import ModelFacts

logger = logging.getLogger(__name__)

KEPT_NOTICES = 100


class SessionState(Enum):
    """How a session is."""

    STARTING = "starting"  # the source is being opened
    LOADING = "loading"  # the first model is on its way in
    RUNNING = "running"
    STALLED = "stalled"  # the source gives no frames; the last picture stays, and the source is tried again
    ENDED = "ended"  # the source is at its end, and all its frames are out
    FAILED = "failed"  # nothing goes on
    STOPPED = "stopped"  # as asked

    @property
    def final(self) -> bool:
        """Whether a session in this state is over for good."""
        return self in (SessionState.FAILED, SessionState.STOPPED)


@dataclass(frozen=True, slots=True)
class Status:
    """A state with one sentence for people (empty where there is nothing to say) and the error behind it."""

    state: SessionState
    message: str = ""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened and that the user should know, while the session goes on."""

    message: str
    error: Exception | None = None


class StatusBoard:
    """Where the threads report, and where anyone reads. Every method may be called from any thread.

    It also counts the sources: with each one that takes the place of another, a new *epoch* begins, and what is
    reported of an earlier one is ignored. So no report can come late, however slow the thread that makes it.

    Args:
        listener: told of every new ``Status`` and every ``Notice``, on the thread that reported it; it must be quick
            and must not raise.
    """

    def __init__(self, listener: Callable[[Status | Notice], None] | None = None) -> None:
        self._changed = threading.Condition()
        self._listener = listener
        self._epoch = 1
        self._source = Status(SessionState.STARTING)
        self._final: Status | None = None
        self._model: ModelFacts | None = None
        self._notices: deque[Notice] = deque(maxlen=KEPT_NOTICES)

    @property
    def status(self) -> Status:
        """How the session is now."""
        with self._changed:
            return self._current()

    @property
    def notices(self) -> list[Notice]:
        """The last ``KEPT_NOTICES`` notices, oldest first."""
        with self._changed:
            return list(self._notices)

    @property
    def model(self) -> ModelFacts | None:
        """The model that serves; None until the first one does."""
        return self._model

    @model.setter
    def model(self, facts: ModelFacts) -> None:
        self._change(lambda: setattr(self, "_model", facts))

    @property
    def epoch(self) -> int:
        """Number of the newest source, counted from 1. Nothing is shown any more of those before it."""
        return self._epoch

    def begin_source(self, message: str) -> int:
        """Another source takes the place of the one before, from now on; its number."""

        def begin() -> None:
            self._epoch += 1
            self._source = Status(SessionState.STARTING, message)

        self._change(begin)
        return self._epoch

    def source(self, epoch: int, state: SessionState, message: str = "", error: Exception | None = None) -> None:
        """Source number ``epoch`` is in another state (any that is not final); ignored where it is not the newest."""

        def settle() -> None:
            if epoch == self._epoch:
                self._source = status

        _let_go(error)
        status = Status(state, message, error)
        self._change(settle)

    def finish(self, state: SessionState, message: str = "", error: Exception | None = None) -> bool:
        """The session is over. Only the first call counts: what follows a failure is its consequence."""

        def settle() -> None:
            self._final = self._final or status

        _let_go(error)
        status = Status(state, message, error)
        self._change(settle)
        return self._final is status

    def notice(self, message: str, error: Exception | None = None) -> None:
        """Tell people something; with the error behind it, the log gets its traceback."""
        _let_go(error)
        notice = Notice(message, error)
        logger.warning("%s", message, exc_info=error)
        with self._changed:
            self._notices.append(notice)
        if self._listener is not None:
            self._listener(notice)

    def wait_for_model(self, cancelled: Callable[[], bool]) -> ModelFacts | None:
        """Sleep until a model serves. None once ``cancelled()`` says so after a ``wake``, or the session is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._model or self._final or cancelled())
            return self._model

    def wait(self, done: Callable[[Status], bool], timeout: float | None = None) -> Status:
        """Sleep until ``done(status)``, or for ``timeout`` seconds; the status then."""
        with self._changed:
            self._changed.wait_for(lambda: done(self._current()), timeout)
            return self._current()

    def wake(self) -> None:
        """Have everyone who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _current(self) -> Status:
        return self._final or self._source

    def _change(self, apply: Callable[[], None]) -> None:
        with self._changed:
            before = self._current()
            apply()
            after = self._current()
            self._changed.notify_all()
        if after == before:
            return
        logger.info("%s %s", after.state.value, after.message, exc_info=after.error)
        if self._listener is not None:
            self._listener(after)


def _let_go(error: BaseException | None) -> None:
    """Errors are kept; what the calls that led to them were working on, perhaps a whole model, is not."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
