"""Values that are made where they are first needed, which may be never."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


class Deferred(Generic[Value]):
    """A value that is made once, by whichever thread first asks for it; the others wait.

    Args:
        make: makes it. What it raises, whoever asks is told, and it is called again for whoever asks next.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make: Callable[[], Value] | None = make
        self._value: Value | None = None
        self._lock = threading.RLock()
        self._begun = False

    @classmethod
    def of(cls, value: Value) -> Deferred[Value]:
        """One that is made already."""
        deferred = cls(lambda: value)
        deferred.get()
        return deferred

    @property
    def made(self) -> bool:
        """Whether ``get`` returns at once."""
        return self._make is None

    def get(self) -> Value:
        """The value."""
        if self._make is not None:
            with self._lock:
                if self._make is not None:
                    self._value = self._make()
                    self._make = None
        return self._value  # type: ignore[return-value]  # it has been made

    def begin(self) -> None:
        """Have it made beside, if nobody has begun with it."""
        if self.made or self._begun:
            return
        self._begun = True
        # Not a daemon: what is imported here must not be cut off by the end of the interpreter.
        threading.Thread(target=self._make_beside, name="vitrail-model-rest").start()

    def _make_beside(self) -> None:
        try:
            self.get()
        except Exception as error:  # noqa: BLE001 - whoever needs it is told then
            logger.warning("what was to be read beside the stream cannot be read: %s", error)
