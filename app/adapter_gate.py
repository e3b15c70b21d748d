"""LoRAs and learned words on their way in: read beside the stream, so that no frame waits for a file or a download."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from app.catalogue import catalogue
from app.standing import Refused

if TYPE_CHECKING:
    from app.engine import Engine
    from pipeline.config import StreamConfig

_NAMES = tuple(name for name, one in catalogue().items() if one.setting.reads_files)


class AdapterGate:
    """Lets settings through once all that they name has been read. Used by the worker's thread alone.

    Args:
        tell: told of what a user should know, with the error behind it.
        refuse: told which choices cannot be had.
    """

    def __init__(
        self,
        tell: Callable[[str, Exception | None], None],
        refuse: Callable[[Mapping[str, Refused]], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._refuse = refuse
        self._reading: _Reading | None = None
        self._refused: tuple[Engine, tuple[str, ...]] | None = None

    def admit(self, engine: Engine, wanted: StreamConfig, present: StreamConfig, *, live: bool) -> StreamConfig:
        """``wanted`` as far as its files are there; what waits for one, or cannot be had, is as in ``present``."""
        self._report(engine, present)
        if engine.is_prepared(wanted):
            if self._refused is not None:
                self._refused = None
                self._refuse({})
            return wanted
        if self._reading is None and self._refused != (engine, _files(wanted)):
            self._reading = _Reading(engine, wanted)
            self._reading.start()
            if not live:
                self._reading.join()
                return self.admit(engine, wanted, present, live=live)
        return replace(wanted, **dict(zip(_NAMES, _files(present), strict=True)))

    def _report(self, engine: Engine, present: StreamConfig) -> None:
        """Say what came of a reading that has ended."""
        reading = self._reading
        if reading is None or reading.is_alive():
            return
        self._reading = None
        for note in reading.notes:
            self._tell(note, None)
        if reading.error is not None:
            self._refused = engine, reading.asked
            self._refuse(reading.refused(present))
            self._tell(f"{reading.error}; the picture goes on without", reading.error)


class _Reading(threading.Thread):
    """Reads what one value of the settings names."""

    def __init__(self, engine: Engine, wanted: StreamConfig) -> None:
        super().__init__(name="vitrail-adapters", daemon=True)
        self._engine = engine
        self._wanted = wanted
        self.asked = _files(wanted)
        self.notes: list[str] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.notes = list(self._engine.prepare(self._wanted))
        except Exception as error:  # noqa: BLE001 - kept for the worker, which reports it
            self.error = error

    def refused(self, present: StreamConfig) -> dict[str, Refused]:
        """What of the asked is not as in ``present``, and why it cannot be had."""
        pairs = zip(_NAMES, self.asked, _files(present), strict=True)
        return {name: Refused(asked, f"Not in force: {self.error}.") for name, asked, has in pairs if asked != has}


def _files(config: StreamConfig) -> tuple[str, ...]:
    return tuple(getattr(config, name) for name in _NAMES)
