"""Files that settings name on their way in: read beside the stream, so that no frame waits for a file or a download."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.catalogue import catalogue
from app.standing import Refused

if TYPE_CHECKING:
    from app.engine import Engine
    from pipeline.config import StreamConfig

_NAMES = tuple(name for name, one in catalogue().items() if one.setting.reads_files)


def _groups() -> tuple[tuple[str, ...], ...]:
    """The settings of ``_NAMES``, those together that are of use only together: pictures, and what shows them."""
    found: dict[str, list[str]] = {}
    for name in _NAMES:
        need = catalogue()[name].setting.need
        found.setdefault(need.name if need is not None and need.name in _NAMES else name, []).append(name)
    return tuple(map(tuple, found.values()))


class AdapterGate:
    """Lets settings through once all that they name has been read. Used by the worker's thread alone.

    What cannot be had stays out alone: the rest that was asked for at the same time is let through.

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
        self._refused: _Outcome | None = None

    def admit(self, engine: Engine, wanted: StreamConfig, present: StreamConfig, *, live: bool) -> StreamConfig:
        """``wanted`` as far as its files are there; what waits for one, or cannot be had, is as in ``present``."""
        self._report(engine)
        if engine.is_prepared(wanted):
            if self._refused is not None:
                self._refused = None
                self._refuse({})
            return wanted
        refused = self._refused
        if refused is not None and (refused.engine, refused.asked) == (engine, _files(wanted)):
            return _with_files(wanted, refused.had)
        if self._reading is None:
            self._reading = _Reading(engine, wanted, present)
            self._reading.start()
            if not live:
                self._reading.join()
                return self.admit(engine, wanted, present, live=live)
        return _with_files(wanted, _files(present))

    def _report(self, engine: Engine) -> None:
        """Say what came of a reading that has ended."""
        reading = self._reading
        if reading is None or reading.is_alive():
            return
        self._reading = None
        for note in reading.notes:
            self._tell(note, None)
        if reading.errors:
            self._refused = _Outcome(engine, reading.asked, _files(reading.had))
            self._refuse(reading.refused())
            for error in dict.fromkeys(reading.errors.values()):
                self._tell(f"{error}; the picture goes on without", error)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What of the files that were asked of an engine could be had."""

    engine: Engine
    asked: tuple[str, ...]
    had: tuple[str, ...]


class _Reading(threading.Thread):
    """Reads what one value of the settings names: all of it, or else each that can be read.

    Attributes:
        asked: the values of ``_NAMES`` that are wanted.
        had: settings with those of them that can be had; the rest as it is at present.
        errors: why the others cannot, by name.
    """

    def __init__(self, engine: Engine, wanted: StreamConfig, present: StreamConfig) -> None:
        super().__init__(name="vitrail-adapters", daemon=True)
        self._engine = engine
        self._wanted = wanted
        self.asked = _files(wanted)
        self.had = _with_files(wanted, _files(present))
        self.notes: list[str] = []
        self.errors: dict[str, Exception] = {}

    def run(self) -> None:
        if self._read(self._wanted) is None:
            return
        for names in _groups():
            part = replace(self.had, **{name: getattr(self._wanted, name) for name in names})
            if part != self.had and (error := self._read(part)):
                self.errors |= {name: error for name in names if getattr(part, name) != getattr(self.had, name)}

    def _read(self, config: StreamConfig) -> Exception | None:
        try:
            notes = self._engine.prepare(config)
        except Exception as error:  # noqa: BLE001 - kept for the worker, which reports it
            return error
        self.had = config
        self.notes += [note for note in notes if note not in self.notes]
        return None

    def refused(self) -> dict[str, Refused]:
        """What cannot be had, and why."""
        asked = dict(zip(_NAMES, self.asked, strict=True))
        return {name: Refused(asked[name], f"Not in force: {error}.") for name, error in self.errors.items()}


def _files(config: StreamConfig) -> tuple[str, ...]:
    return tuple(getattr(config, name) for name in _NAMES)


def _with_files(config: StreamConfig, files: tuple[str, ...]) -> StreamConfig:
    return replace(config, **dict(zip(_NAMES, files, strict=True)))
