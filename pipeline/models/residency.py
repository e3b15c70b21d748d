"""Who owns a model's weights, and who is told before they change.

The invariant: whoever holds something that was made of a part's weights (an engine, cached keys and values, encoded
prompts) has been told before the first of these weights is another. Every change of weights goes through ``changing``,
which tells the listeners and holds ``lock`` until the last weight is written; whoever copies weights holds the same
lock, and so never sees a half of a change.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

# The parts of a model, as LoRAs, engines and listeners call them; ``text_2`` is SDXL's second text encoder.
DENOISER, AUTOENCODER, TEXT, TEXT_2 = "denoiser", "autoencoder", "text", "text_2"
PARTS = (DENOISER, AUTOENCODER, TEXT, TEXT_2)


class Listener(Protocol):
    """Holds something that was made of a model's weights, and is told before they change."""

    def changed(self, part: str, *, moved: bool) -> None:
        """The weights of ``part`` are about to change. Called with the lock held, on the thread that changes them.

        Args:
            moved: they are also moved to other memory, so that a module that shares them must be made anew.
        """
        ...


class Residency:
    """The owner of a model's weights: whoever changes them does so within ``changing``.

    Attributes:
        lock: held while weights are written; to be held while they are copied.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._revisions: Counter[str] = Counter()
        self._guests: set[str] = set()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()

    def subscribe(self, listener: Listener) -> None:
        """Tell ``listener`` of all changes from now on, for as long as somebody else holds it."""
        with self.lock:
            self._listeners.add(listener)

    def admit(self, part: str) -> None:
        """From now on ``part`` is a part of the model as well, such as a ControlNet that is used with it."""
        self._guests.add(part)

    def revision(self, part: str) -> int:
        """How often the weights of ``part`` have changed."""
        return self._revisions[part]

    @contextlib.contextmanager
    def changing(self, *parts: str, moved: bool = False) -> Iterator[None]:
        """Inside, the weights of ``parts`` may be written; the listeners have been told.

        Args:
            parts: of ``PARTS``, or admitted.
            moved: see ``Listener.changed``.

        Raises:
            ValueError: there is no such part; nobody would have been told.
        """
        unknown = [part for part in parts if part not in PARTS and part not in self._guests]
        if unknown:
            raise ValueError(
                f"a model has no part {unknown[0]!r}; its parts are {', '.join((*PARTS, *sorted(self._guests)))}"
            )
        with self.lock:
            for part in dict.fromkeys(parts):
                self._revisions[part] += 1
                for listener in list(self._listeners):
                    listener.changed(part, moved=moved)
            yield
